"""Time of a scan against two full SVDs per matrix, as ratios measured side by side in one run.

    python scripts/bench_scan.py [--shapes 1024x1024,4096x4096] [--roberta] [--seed 0] [-o TABLE.md]

Every verdict is compared with that of the exact method; the last column counts those that differ.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import synthetic
import torch

from spectra.analysis.bounds import CosineBounds
from spectra.analysis.cached_basis import cached_basis
from spectra.analysis.certified import certified
from spectra.analysis.exact import exact
from spectra.analysis.factors import BaseFactors
from spectra.analysis.tuned import Tuned
from spectra.linalg.operators import Dense
from spectra.provenance import commit, hardware, versions

K = 10
EPSILON = torch.tensor([0.5], dtype=torch.float64)
SHAPES = "1024x1024,2048x2048,4096x4096,11008x4096,4096x11008"
ROBERTA = {(768, 768): 48, (3072, 768): 12, (768, 3072): 12}
COLUMNS = ("matrix", "update", "intruders", "two SVDs (s)", "first scan (s)", "", "next adapter (s)", "")
COLUMNS += ("basis cached (s)", "", "differing")
HEADER = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|"


@dataclass(frozen=True)
class Row:
    """One shape and kind of update, times in seconds."""

    shape: tuple[int, int]
    update: str
    intruders: int
    two_svds: float
    first: float
    following: float
    basis: float
    differing: int

    def __str__(self) -> str:
        cells = [f"{self.shape[0]} x {self.shape[1]}", self.update, str(self.intruders), f"{self.two_svds:.2f}"]
        for seconds in (self.first, self.following, self.basis):
            cells += [f"{seconds:.3f}", f"{self.two_svds / seconds:.0f}x"]
        return "| " + " | ".join([*cells, str(self.differing)]) + " |"


def timed(work: Callable[[], list[CosineBounds]], repeats: int = 3) -> tuple[float, CosineBounds]:
    """Median time of some repeats, and the last result."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        [result] = work()
        seconds.append(time.perf_counter() - began)
    return sorted(seconds)[len(seconds) // 2], result


def updates(W0: torch.Tensor, seed: int) -> Iterator[tuple[str, Tuned, Tuned]]:
    """Two updates of each kind: a LoRA of rank 8, and a dense one as full fine-tuning makes it."""
    shape = (W0.shape[0], W0.shape[1])
    yield "low-rank", *(Tuned(update=synthetic.low_rank(*shape, seed + i)) for i in (1, 2))
    yield "dense", *(Tuned(W=Dense(W0 + synthetic.dense(*shape, seed + i))) for i in (1, 2))


def rows(d_out: int, d_in: int, seed: int) -> Iterator[Row]:
    """The rows of one shape."""
    W0 = synthetic.base(d_out, d_in, seed)
    base = BaseFactors(Dense(W0))
    began = time.perf_counter()
    base.full()
    one_svd = time.perf_counter() - began
    for kind, one, two in updates(W0, seed):
        other_svd, truth = timed(lambda t=one: exact(base, [t], K, EPSILON), repeats=1)
        _, truth_two = timed(lambda t=two: exact(base, [t], K, EPSILON), repeats=1)
        taught = BaseFactors(Dense(W0))
        certified(taught, [one], K, EPSILON)  # also warms up the libraries before anything of ours is timed
        first, found = timed(lambda t=one: certified(BaseFactors(Dense(W0)), [t], K, EPSILON))
        following, found_two = timed(lambda t=two, b=taught: certified(b, [t], K, EPSILON))
        basis, found_basis = timed(lambda t=one: cached_basis(base, [t], K, EPSILON))
        pairs = ((found, truth), (found_two, truth_two), (found_basis, truth))
        differing = sum(int(((a.upper < EPSILON) != (b.upper < EPSILON)).sum()) for a, b in pairs)
        intruders = int((truth.upper < EPSILON).sum())
        yield Row((d_out, d_in), kind, intruders, one_svd + other_svd, first, following, basis, differing)


def roberta_total(measured: list[Row]) -> str:
    """The 72 matrices of RoBERTa-base, weighted from one measurement of each shape."""
    chosen = [row for row in measured if row.update == "low-rank"]
    two = sum(ROBERTA[row.shape] * row.two_svds for row in chosen)
    first = sum(ROBERTA[row.shape] * row.first for row in chosen)
    return (
        f"\nAll 72 matrices of RoBERTa-base, low-rank updates: {two:.1f} s against {first:.1f} s, {two / first:.1f}x."
    )


def main() -> None:
    """Print the table as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default=SHAPES)
    parser.add_argument("--roberta", action="store_true", help="the shapes of RoBERTa-base instead")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--out", type=Path, help="also write the table here")
    asked = parser.parse_args()
    shapes = ROBERTA if asked.roberta else [tuple(map(int, text.split("x"))) for text in asked.shapes.split(",")]
    lines: list[str] = []

    def tell(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    tell(HEADER)
    measured: list[Row] = []
    for shape in shapes:
        for row in rows(*shape, asked.seed):
            measured.append(row)
            tell(str(row))
    if asked.roberta:
        tell(roberta_total(measured))
    facts = [f"{key} {value}" for key, value in hardware().items()]
    tell(f"\nSeed {asked.seed}, {torch.get_num_threads()} threads, {', '.join(facts)}, torch {versions()['torch']},")
    tell(f"commit {commit()}. Command: {shlex.join(['python', *sys.argv])}")
    if asked.out:
        asked.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
