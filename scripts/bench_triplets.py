"""Leading singular triplets: time of other tools when each is run until it reaches the residual of block Lanczos.

python scripts/bench_triplets.py [--size 2048] [--seed 0]
"""

import argparse
import time
from collections.abc import Callable, Sequence

import synthetic
import torch
from scipy.sparse.linalg import svds
from torch import Tensor

from spectra.linalg.operators import Dense
from spectra.linalg.triplets import leading_vectors
from spectra.records.provenance import commit

try:
    from sklearn.utils.extmath import randomized_svd
except ImportError:  # compared where it is installed
    randomized_svd = None

K = 10
EFFORTS = (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64)


def residual(W: Tensor, U: Tensor, S: Tensor) -> float:
    """max_j ||W v_j - s_j u_j|| / s_1 with v_j = W^H u_j / s_j, in float64."""
    order = S.argsort(descending=True)[:K]
    U, S, W = U[:, order].double(), S[order].double(), W.double()
    V = W.mH @ U / S
    return float(torch.linalg.vector_norm(W @ V - U * S, dim=0).max() / S.max())


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    n = asked.size
    W = synthetic.base(n, n, asked.seed) + synthetic.low_rank(n, n, asked.seed + 1).dense()
    array = W.numpy()

    def tensors(parts: tuple) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(parts[0].copy()), torch.from_numpy(parts[1].copy())

    tools: dict[str, Callable[[int], tuple[Tensor, Tensor]]] = {
        "torch.svd_lowrank": lambda effort: torch.svd_lowrank(W, q=K + 6, niter=effort)[:2],
        "sklearn randomized_svd": lambda effort: tensors(randomized_svd(array, K, n_iter=effort, random_state=0)),
        "scipy svds (ARPACK)": lambda effort: tensors(svds(array, K, tol=10 ** (-effort / 8), random_state=0)),
    }
    if randomized_svd is None:
        del tools["sklearn randomized_svd"]
    leading_vectors(Dense(W), [None], K)
    began = time.perf_counter()
    [ours] = leading_vectors(Dense(W), [None], K)
    seconds = time.perf_counter() - began
    goal = residual(W, ours.U, ours.S)
    print(f"| leading {K} triplets, {n} x {n} | seconds | residual | time |\n|---|---|---|---|")
    print(f"| spectra block Lanczos | {seconds:.3f} | {goal:.1e} | 1.0x |")
    for name, tool in tools.items():
        for effort in EFFORTS:
            began = time.perf_counter()
            U, S = tool(effort)
            took = time.perf_counter() - began
            reached = residual(W, U, S)
            if reached <= goal:
                break
        print(f"| {name}, effort {effort} | {took:.3f} | {reached:.1e} | {took / seconds:.1f}x |")
    print(f"\nSeed {asked.seed}, {torch.get_num_threads()} threads, commit {commit()}.")


if __name__ == "__main__":
    main()
