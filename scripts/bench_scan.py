"""Time of a scan against two full SVDs per matrix, as ratios measured side by side in one run.

    python scripts/bench_scan.py [--shapes 1024x1024,4096x4096] [--roberta] [--device cuda] [-o TABLE.md]
    python scripts/bench_scan.py --compare REV [--threads 1]   two versions alternately (`bench_compare`)
    python scripts/bench_scan.py --layers N      a checkpoint in the shapes of Llama-2-7B (`bench_checkpoint`)
    python scripts/bench_scan.py --triplets N    the leading triplets alone, against other tools (`bench_triplets`)

- two SVDs: the definition as published, torch.linalg.svd of W0 and of W_tuned.
- first scan: nothing cached; what it learns of W0 goes to a factor cache on disk.
- next adapter: another adapter alone, in a new scan that reads that cache.
- each of 8: eight further adapters in one scan that reads that cache, time per adapter.
- basis cached: the full SVD of W0 is at hand.

Verdicts are compared with those of the exact method (of the eight, for the first `--checked`); the last column counts
those that differ. Times are of the wall; the processor time of the first scan stands beside it. A table measured while
other work ran is not written into `reports/`.
"""

import argparse
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: threads that spin slow whatever else runs

import bench_checkpoint
import bench_compare
import bench_triplets
import synthetic
import torch
from bench_worker import EPSILON, KINDS, TOGETHER, Bench, K, synchronise, updates
from machine_load import MachineLoad

from spectra.engine.bounds import CosineBounds
from spectra.engine.cached_basis import cached_basis
from spectra.engine.exact import exact
from spectra.engine.factors import BaseFactors
from spectra.engine.tuned import Tuned
from spectra.linalg.operators import Dense
from spectra.records.provenance import commit, hardware, versions
from spectra.scanning.side_by_side import side_by_side

Result = TypeVar("Result")

SHAPES = "1024x1024,2048x2048,4096x4096,11008x4096,4096x11008"
ROBERTA = {(768, 768): 48, (3072, 768): 12, (768, 3072): 12}
REPORTS = Path(__file__).parents[1] / "reports"
CHECKED = 2  # of the eight, unless asked otherwise: each costs a full SVD
COLUMNS = ("matrix", "update", "intruders", "two SVDs (s)", "first scan (s)", "processor (s)")
COLUMNS += ("of two SVDs", "next adapter (s)", "of the first", f"each of {TOGETHER} (s)", "of the first")
COLUMNS += ("basis cached (s)", "of two SVDs", "differing")
HEADER = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|"


@dataclass(frozen=True)
class Row:
    """One shape and kind of update, times in seconds."""

    shape: tuple[int, int]
    update: str
    intruders: int
    two_svds: float
    first: float
    first_processor: float
    following: float
    together: float
    basis: float
    differing: int

    def __str__(self) -> str:
        cells = [f"{self.shape[0]} x {self.shape[1]}", self.update, str(self.intruders), f"{self.two_svds:.2f}"]
        for seconds, against in (
            (self.first, self.two_svds),
            (self.following, self.first),
            (self.together, self.first),
            (self.basis, self.two_svds),
        ):
            cells += [
                f"{seconds:.3f}",
                f"{against / seconds:.1f}x" if against < 20 * seconds else f"{against / seconds:.0f}x",
            ]
        cells.insert(5, f"{self.first_processor:.3f}")
        return "| " + " | ".join([*cells, str(self.differing)]) + " |"


def stopwatch(work: Callable[[], Result], device: str = "cpu", repeats: int = 1) -> tuple[float, Result]:
    """Median seconds of some repeats, and the last result."""
    seconds = []
    for _ in range(repeats):
        synchronise(device)
        began = time.perf_counter()
        result = work()
        synchronise(device)
        seconds.append(time.perf_counter() - began)
    return sorted(seconds)[len(seconds) // 2], result


def differing(found: Sequence[CosineBounds], truth: Sequence[CosineBounds]) -> int:
    """Verdicts that are not those of the exact method."""
    return sum(int(((a.upper < EPSILON) != (b.upper < EPSILON)).sum()) for a, b in zip(found, truth, strict=True))


def rows(shape: tuple[int, int], seed: int, folder: Path, checked: int, device: str = "cpu") -> Iterator[Row]:
    """The rows of one shape."""
    W0 = synthetic.base(*shape, seed, device)
    bench, full = Bench(W0, folder), BaseFactors(Dense(W0))
    torch.linalg.svd(W0[:300, :300])  # loads the libraries
    one_svd, _ = stopwatch(full.full, device)
    for kind in KINDS:
        one, *more = updates(W0, kind, seed)
        other_svd, truth = stopwatch(lambda t=one: exact(full, [t], K, EPSILON), device)
        truth += exact(full, more[:checked], K, EPSILON)
        first, found, learned = bench.timed([one])
        following, found_next, _ = bench.timed(more[:1], learned=learned)
        together, found_together, _ = bench.timed(more, learned=learned, repeats=3)
        cached_basis(full, [one], K, EPSILON)
        basis, found_basis = stopwatch(lambda t=one: cached_basis(full, [t], K, EPSILON), device, repeats=5)
        wrong = differing(found + found_together[:checked], truth) + differing(found_basis, truth[:1])
        wrong += differing(found_next, truth[1:2]) if checked else 0
        intruders = int((truth[0].upper < EPSILON).sum())
        yield Row(
            shape,
            kind,
            intruders,
            one_svd + other_svd,
            first.wall,
            first.cpu,
            following.wall,
            together.wall / TOGETHER,
            basis,
            wrong,
        )


def roberta_total(measured: list[Row], seed: int, folder: Path) -> str:
    """The 72 matrices of RoBERTa-base: weighted from one measurement of each shape, and scanned side by side."""
    chosen = [row for row in measured if row.update == "low-rank"]
    two = sum(ROBERTA[row.shape] * row.two_svds for row in chosen)
    first = sum(ROBERTA[row.shape] * row.first for row in chosen)
    beside = roberta_side_by_side(seed, folder)
    return (
        f"\nAll 72 matrices of RoBERTa-base, low-rank updates: {two:.1f} s against {first:.1f} s, {two / first:.1f}x; "
        f"the scans side by side, as `spectra intruders` makes them: {beside:.1f} s, {two / beside:.1f}x."
    )


def roberta_side_by_side(seed: int, folder: Path) -> float:
    """Seconds for first scans of all 72 matrices, one thread each, as many at once as there are threads."""
    benches = {shape: Bench(synthetic.base(*shape, seed), folder / f"{shape[0]}x{shape[1]}") for shape in ROBERTA}
    tasks = [
        (benches[shape], Tuned(update=synthetic.low_rank(*shape, seed + 1 + i)))
        for shape, count in ROBERTA.items()
        for i in range(count)
    ]
    seconds, _ = stopwatch(lambda: list(side_by_side(lambda task: task[0].once([task[1]]), tasks, lambda _: True)))
    return seconds


def parse(shape: str) -> tuple[int, int]:
    """Rows and columns of a shape written as 4096x11008."""
    d_out, d_in = shape.split("x")
    return int(d_out), int(d_in)


def main() -> None:
    """Print the table as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default=SHAPES)
    parser.add_argument("--roberta", action="store_true", help="the shapes of RoBERTa-base instead")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compare", metavar="REV", help="this version against that one, alternately")
    parser.add_argument("--repeats", type=int, default=4, help="pairs of each scan with --compare")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of either version with --compare")
    parser.add_argument("--checked", type=int, default=CHECKED, help="of the eight, how many against full SVDs")
    parser.add_argument("--device", default="cpu", help="of the scans and of the SVDs")
    parser.add_argument("-o", "--out", type=Path, help="also write the table here")
    parser.add_argument("--layers", type=int, help="a checkpoint of this many layers instead, with its peak memory")
    parser.add_argument("--triplets", type=int, help="the leading triplets of a square matrix of this size instead")
    asked = parser.parse_args()
    if asked.layers:
        bench_checkpoint.main(["--layers", str(asked.layers), "--seed", str(asked.seed), "--device", asked.device])
        return
    if asked.triplets:
        bench_triplets.main(["--size", str(asked.triplets), "--seed", str(asked.seed)])
        return
    shapes = list(ROBERTA) if asked.roberta else [parse(text) for text in asked.shapes.split(",")]
    lines: list[str] = []
    load = MachineLoad()

    def tell(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    if asked.compare:
        bench_compare.compare(asked.compare, shapes, asked.seed, asked.repeats, asked.threads, tell)
    else:
        table(shapes, asked, tell)
    facts = [f"{key} {value}" for key, value in hardware().items()] + [f"device {asked.device}"]
    tell(f"\n{load.told()}")
    tell(f"Seed {asked.seed}, {torch.get_num_threads()} threads, {', '.join(facts)}, torch {versions()['torch']},")
    tell(f"commit {commit()}. Command: {shlex.join(['python', *sys.argv])}")
    if asked.out and (reason := load.too_much()) and REPORTS in asked.out.resolve().parents:
        sys.exit(f"{reason} The table is not written into {REPORTS.name}/. Measure again on an idle machine.")
    if asked.out:
        asked.out.write_text("\n".join(lines) + "\n")


def table(shapes: Sequence[tuple[int, int]], asked: argparse.Namespace, tell: Callable[[str], None]) -> None:
    """The rows of all shapes."""
    tell(HEADER)
    measured: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="bench-scan-") as folder:
        for shape in shapes:
            for row in rows(shape, asked.seed, Path(folder), asked.checked, asked.device):
                measured.append(row)
                tell(str(row))
    if asked.roberta:
        with tempfile.TemporaryDirectory(prefix="bench-scan-") as folder:
            tell(roberta_total(measured, asked.seed, Path(folder)))


if __name__ == "__main__":
    main()
