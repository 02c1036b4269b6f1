"""Time of a scan of a trained checkpoint against two full SVDs per matrix, side by side in one run.

    python scripts/bench_model.py CKPT --base BASE [--layers 0,5] [-o TABLE.md]

Matrix by matrix: `torch.linalg.svd` of W0 and of W_tuned in float32, then a scan by the method that `auto` chooses,
with nothing cached. The last column counts verdicts that differ from those of the exact method. The last row scans all
matrices as `spectra intruders` does those of at most 4 million entries: one thread each, as many at once as there are
threads.
"""

import argparse
import os
import shlex
import sys
from collections import defaultdict
from dataclasses import astuple, dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: threads that spin slow whatever else runs

import torch
from bench_scan import EPSILON, K, stopwatch

from spectra import Selection
from spectra.engine.bounds import CosineBounds
from spectra.engine.exact import exact
from spectra.engine.factors import BaseFactors
from spectra.engine.methods import METHODS, choose
from spectra.engine.tuned import Tuned
from spectra.linalg.operators import Dense
from spectra.records.provenance import commit, hardware, versions
from spectra.scanning.side_by_side import side_by_side
from spectra.weights import MatrixPair, open_pair

HEADER = (
    "| matrix | of them | intruders | two SVDs (s) | first scan (s) |  | differing |\n|---|---|---|---|---|---|---|"
)


@dataclass
class Total:
    """Sums over the matrices of one shape."""

    matrices: int = 0
    intruders: int = 0
    two_svds: float = 0.0
    scan: float = 0.0
    differing: int = 0

    def __add__(self, other: "Total") -> "Total":
        """Both together."""
        return Total(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    @staticmethod
    def of(pair: MatrixPair) -> "Total":
        """Measure one matrix."""
        W0, tuned = loaded(pair)
        two_svds, [truth] = stopwatch(lambda: exact(BaseFactors(W0), [tuned], K, EPSILON))
        seconds, [found] = stopwatch(lambda: scanned((W0, tuned)), repeats=3)
        true, said = truth.upper < EPSILON, found.upper < EPSILON
        return Total(1, int(true.sum()), two_svds, seconds, int((true != said).sum()))

    def line(self, name: str) -> str:
        """A row of the table."""
        ratio = f"{self.two_svds / self.scan:.1f}x"
        cells = (name, self.matrices, self.intruders, f"{self.two_svds:.2f}", f"{self.scan:.2f}", ratio, self.differing)
        return "| " + " | ".join(map(str, cells)) + " |"


def loaded(pair: MatrixPair) -> tuple[Dense, Tuned]:
    """W0 and what became of it."""
    W0 = Dense(pair.W0.load(dtype=torch.float32, device="cpu"))
    update = pair.update()
    return W0, Tuned(update=update) if update is not None else Tuned(W=Dense(pair.W_tuned()))


def scanned(matrix: tuple[Dense, Tuned]) -> list[CosineBounds]:
    """A first scan of one matrix by the method that `auto` chooses."""
    base = BaseFactors(matrix[0])
    return METHODS[choose(base, 1, K)](base, [matrix[1]], K, EPSILON)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--base", required=True)
    parser.add_argument("--layers", help="measure these layers only, such as 0,5-7")
    parser.add_argument("-o", "--out", type=Path, help="also write the table here")
    asked = parser.parse_args()
    by_shape: dict[str, Total] = defaultdict(Total)
    pairs = open_pair(asked.base, asked.checkpoint, Selection(layers=asked.layers)).matrices
    Total.of(pairs[0])  # warms up the libraries
    for pair in pairs:
        by_shape[f"{pair.shape[0]} x {pair.shape[1]}"] += Total.of(pair)
    lines = [HEADER, *(total.line(name) for name, total in by_shape.items())]
    total = sum(by_shape.values(), Total())
    lines.append(total.line("all"))
    matrices = [loaded(pair) for pair in pairs]
    seconds, _ = stopwatch(lambda: list(side_by_side(scanned, matrices, lambda _: True)), repeats=3)
    lines.append(replace(total, scan=seconds).line("all, side by side"))
    facts = ", ".join(f"{key} {value}" for key, value in hardware().items())
    lines.append(f"\n{torch.get_num_threads()} threads, {facts}, torch {versions()['torch']},")
    lines.append(f"commit {commit()}. Command: {shlex.join(['python', *sys.argv])}")
    print("\n".join(lines))
    if asked.out:
        asked.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
