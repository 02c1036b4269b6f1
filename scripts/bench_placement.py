"""Where small dense work is faster, on the CPU or on the device: the measurements behind `linalg.placement`.

    python scripts/bench_placement.py --device cuda [--largest 4096] [-o TABLE.md]

Milliseconds, the transfers to the CPU and back included where the work is done there; the median of some repeats.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from bench_worker import synchronise
from torch import Tensor

from spectra.linalg.placement import EIGENPROBLEM_ON_CPU, SVD_ON_CPU

Work = Callable[[Tensor], object]
WIDTH = 30


def symmetric(n: int, dtype: torch.dtype) -> Tensor:
    """A random Gram matrix."""
    X = torch.randn(n, n, dtype=dtype)
    return X @ X.mH / n


def tall(n: int, dtype: torch.dtype) -> Tensor:
    """A block of vectors."""
    return torch.randn(n, WIDTH, dtype=dtype)


def square(n: int, dtype: torch.dtype) -> Tensor:
    """A random matrix."""
    return torch.randn(n, n, dtype=dtype)


CASES: tuple[tuple[str, Callable[[int, torch.dtype], Tensor], Work, torch.dtype, tuple[int, ...]], ...] = (
    ("eigenpairs, projected problem", symmetric, torch.linalg.eigh, torch.float64, (64, 128, 256, 512)),
    ("eigenpairs, Gram matrix", symmetric, torch.linalg.eigh, torch.float32, (256, 512, 768, 1024)),
    ("QR of a block", tall, torch.linalg.qr, torch.float32, (1024, 4096, 11008)),
    ("thin SVD", square, lambda W: torch.linalg.svd(W, full_matrices=False), torch.float32, (256, 512, 1024, 2048)),
)


def milliseconds(work: Callable[[], object], device: str, patience: float = 1.0) -> float:
    """The median of up to five repeats after one to warm up; fewer when they are long."""
    taken: list[float] = []
    began = time.perf_counter()
    while len(taken) < 6 and (len(taken) < 2 or time.perf_counter() - began < patience):
        synchronise(device)
        start = time.perf_counter()
        work()
        synchronise(device)
        taken.append(time.perf_counter() - start)
    warm = sorted(taken[1:])
    return 1e3 * warm[len(warm) // 2]


def there_and_back(work: Work, W: Tensor) -> None:
    """The same on the CPU, for a matrix on the device, with the results brought back."""
    found = work(W.cpu())
    for part in found if isinstance(found, tuple) else (found,):
        part.to(W.device)


def main() -> None:
    """Print the table as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--largest", type=int, default=11008, help="larger problems are left out")
    parser.add_argument("-o", "--out", type=Path, help="also write the table here")
    asked = parser.parse_args()
    told = ["| problem | size | arithmetic | on the CPU (ms) | on the device (ms) |", "|---|---|---|---|---|"]
    print("\n".join(told), flush=True)
    for name, make, work, dtype, sizes in CASES:
        for size in (size for size in sizes if size <= asked.largest):
            W = make(size, dtype).to(asked.device)
            cpu = milliseconds(lambda W=W, work=work: there_and_back(work, W), asked.device)  # type: ignore[misc]
            device = milliseconds(lambda W=W, work=work: work(W), asked.device)  # type: ignore[misc]
            kind = str(dtype).removeprefix("torch.")
            told.append(f"| {name} | {size} | {kind} | {cpu:.2f} | {device:.2f} |")
            print(told[-1], flush=True)
    told.append(
        f"\nDevice {asked.device}, {torch.get_num_threads()} threads. The engine factorises on the CPU up to "
        f"{SVD_ON_CPU} (SVD) and {EIGENPROBLEM_ON_CPU} (eigenpairs), and solves every projected problem there."
    )
    print(told[-1])
    if asked.out:
        asked.out.write_text("\n".join(told) + "\n")


if __name__ == "__main__":
    main()
