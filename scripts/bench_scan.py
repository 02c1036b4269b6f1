"""Time of a scan against two full SVDs per matrix, as ratios measured side by side in one run.

    python scripts/bench_scan.py [--shapes 1024x1024,4096x4096,11008x4096] [--seed 0] [--triplets] [--roberta] [--markdown OUT]

Every verdict is compared with that of the exact method; a row says how many differ.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import synthetic
import torch

from spectra.analysis.bounds import CosineBounds
from spectra.analysis.certified import certified
from spectra.analysis.cached_basis import cached_basis
from spectra.analysis.exact import exact
from spectra.analysis.factors import BaseFactors
from spectra.analysis.tuned import Tuned
from spectra.linalg.operators import Dense
from spectra.linalg.triplets import leading_vectors
from spectra.provenance import commit, hardware, versions

EPSILON = torch.tensor([0.5], dtype=torch.float64)
K = 10
SHAPES = "1024x1024,2048x2048,4096x4096,11008x4096,4096x11008"
ROBERTA = {(768, 768): 48, (3072, 768): 12, (768, 3072): 12}
HEADER = "| matrix | update | two SVDs (s) | first scan (s) | ratio | next adapter (s) | ratio | full basis cached (s) | ratio | differing verdicts |"


def timed(work: Callable[[], list[CosineBounds]], repeats: int) -> tuple[float, CosineBounds]:
    """Median time of some repeats, and the last result."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - began)
    return sorted(seconds)[len(seconds) // 2], result[0]


def bench_shape(d_out: int, d_in: int, seed: int, repeats: int = 3) -> list[dict[str, object]]:
    """The rows of one shape: a low-rank and a dense update."""
    W0 = synthetic.base(d_out, d_in, seed)
    base = BaseFactors(Dense(W0))
    svd_W0, _ = timed(lambda: [base.full()], 1)  # type: ignore[list-item]
    rows = []
    for kind in ("low-rank r=8", "dense"):
        if kind == "dense":
            tuned = [Tuned(W=Dense(W0 + synthetic.dense(d_out, d_in, seed + i))) for i in (1, 2)]
        else:
            tuned = [Tuned(update=synthetic.low_rank(d_out, d_in, seed + i)) for i in (1, 2)]
        svd_W, truth = timed(lambda t=tuned: exact(base, [t[0]], K, EPSILON), 1)
        _, truth_next = timed(lambda t=tuned: exact(base, [t[1]], K, EPSILON), 1)
        two = svd_W0 + svd_W
        certified(BaseFactors(Dense(W0)), [tuned[1]], K, EPSILON)  # warm up the libraries, not the factors
        first, found = timed(lambda t=tuned: certified(BaseFactors(Dense(W0)), [t[0]], K, EPSILON), repeats)
        taught = BaseFactors(Dense(W0))
        certified(taught, [tuned[0]], K, EPSILON)
        following, found_next = timed(lambda t=tuned, b=taught: certified(b, [t[1]], K, EPSILON), repeats)
        basis, found_basis = timed(lambda t=tuned: cached_basis(base, [t[0]], K, EPSILON), repeats)
        pairs = [(found, truth), (found_next, truth_next), (found_basis, truth)]
        differing = sum(int(((a.upper < 0.5) != (b.upper < 0.5)).sum()) for a, b in pairs)
        rows.append(
            {"shape": (d_out, d_in), "update": kind, "two": two, "first": first, "next": following, "basis": basis,
             "intruders": int((truth.upper < 0.5).sum()), "differing": differing}
        )  # fmt: skip
        print(line(rows[-1]), flush=True)
    return rows


def line(row: dict[str, object]) -> str:
    """A row of the Markdown table."""
    d_out, d_in = row["shape"]  # type: ignore[misc]
    cells = [f"{d_out} x {d_in}", f"{row['update']}, {row['intruders']} intruders", f"{row['two']:.2f}"]
    for name in ("first", "next", "basis"):
        cells += [f"{row[name]:.3f}", f"{row['two'] / row[name]:.0f}x"]  # type: ignore[operator]
    return "| " + " | ".join([*cells, str(row["differing"])]) + " |"


def bench_triplets(n: int, seed: int) -> list[str]:
    """Leading 10 triplets: time of other tools when they are run until they reach our residual."""
    from scipy.sparse.linalg import svds
    from sklearn.utils.extmath import randomized_svd

    W = synthetic.base(n, n, seed) + synthetic.low_rank(n, n, seed + 1).dense()
    array = W.numpy()

    def residual(U: torch.Tensor, S: torch.Tensor) -> float:
        V = W.mH @ U / S
        return float(torch.linalg.vector_norm(W @ V - U * S, dim=0).max() / S.max())

    began = time.perf_counter()
    [ours] = leading_vectors(Dense(W), [None], K)
    seconds, goal = time.perf_counter() - began, residual(ours.U, ours.S)
    lines = [f"| spectra block Lanczos | {seconds:.3f} | {goal:.1e} | 1.0x |"]
    tools: dict[str, Callable[[int], tuple[torch.Tensor, torch.Tensor]]] = {
        "torch.svd_lowrank": lambda i: torch.svd_lowrank(W, q=K + 6, niter=i)[:2],
        "sklearn randomized_svd": lambda i: tuple(
            torch.from_numpy(part.copy()) for part in randomized_svd(array, K, n_iter=i, random_state=0)[:2]
        ),  # type: ignore[dict-item]
        "scipy svds (ARPACK)": lambda i: tuple(
            torch.from_numpy(part.copy()) for part in svds(array, K, tol=10.0 ** -(i / 2), random_state=0)[:2]
        ),  # type: ignore[dict-item]
    }
    for name, tool in tools.items():
        for effort in (1, 2, 4, 8, 16, 32, 64):
            began = time.perf_counter()
            U, S = tool(effort)
            seconds_tool = time.perf_counter() - began
            reached = residual(U[:, S.argsort(descending=True)[:K]], S.sort(descending=True).values[:K])
            if reached <= goal:
                break
        lines.append(f"| {name} | {seconds_tool:.3f} | {reached:.1e} | {seconds_tool / seconds:.1f}x |")
    return lines


def main() -> None:
    """Run what was asked for and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default=SHAPES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--triplets", type=int, default=0, metavar="N", help="compare the triplet solvers at N x N")
    parser.add_argument("--roberta", action="store_true", help="the 72 matrix shapes of RoBERTa-base")
    parser.add_argument("--markdown", type=Path, help="also write the tables here")
    asked = parser.parse_args()
    shapes = (
        list(ROBERTA)
        if asked.roberta
        else [tuple(map(int, text.split("x"))) for text in asked.shapes.split(",") if text]
    )
    report = [HEADER, "|---" * 10 + "|"]
    print("\n".join(report))
    rows = [row for shape in shapes for row in bench_shape(*shape, asked.seed)]
    report += [line(row) for row in rows]
    if asked.roberta:
        weighted = {
            name: sum(ROBERTA[r["shape"]] * r[name] for r in rows if r["update"] != "dense")
            for name in ("two", "first")
        }  # type: ignore[index,misc]
        report.append(
            f"\nAll 72 matrices, low-rank: {weighted['two']:.1f} s / {weighted['first']:.1f} s = {weighted['two'] / weighted['first']:.1f}x"
        )
    if asked.triplets:
        report += [
            "",
            f"| leading {K} triplets, {asked.triplets} x {asked.triplets} | s | residual | time |",
            "|---|---|---|---|",
        ]
        report += bench_triplets(asked.triplets, asked.seed)
    facts = f"seed {asked.seed}, {torch.get_num_threads()} threads, {dict(hardware())}, torch {versions()['torch']}, commit {commit()}"
    report += ["", facts]
    print("\n".join(report[2 + len(rows) :]))
    if asked.markdown:
        asked.markdown.write_text("\n".join(report) + "\n")


if __name__ == "__main__":
    main()
