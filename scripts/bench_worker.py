"""The scans that the benchmarks time. As a program: the worker of `bench_compare`, which runs them when it is told to.

Protocol, one JSON value a line: {"shape": [r, c], "update": kind, "seed": n} makes the matrices and is answered by
null; {"scan": name} runs one scan and is answered by {"wall": s, "cpu": s, "verdicts": [...]}. The engine is that of
the version on PYTHONPATH.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: threads that spin slow whatever else runs

import synthetic
import torch

from spectra.linalg.operators import Dense

K = 10
EPSILON = torch.tensor([0.5], dtype=torch.float64)
TOGETHER = 8
KINDS = ("low-rank", "dense")
SCANS = ("first scan", "next adapter", f"each of {TOGETHER}")


def engine(module: str) -> Any:
    """A module of the engine, which earlier versions keep in another package."""
    try:
        return import_module(f"spectra.engine.{module}")
    except ModuleNotFoundError:
        return import_module(f"spectra.analysis.{module}")


class Taken(NamedTuple):
    """What a scan took, in seconds."""

    wall: float
    cpu: float


class Bench:
    """One W0, its factor cache, and the scans that are timed."""

    def __init__(self, W0: torch.Tensor, folder: Path) -> None:
        self.W0, self.cache, self.entries = Dense(W0), engine("cache").FactorCache(folder), count()
        self.certified, self.base = engine("certified").certified, engine("factors").BaseFactors

    def once(self, tuned: Sequence[Any], learned: Any = None) -> tuple[Taken, Any, Any]:
        """One scan with a cache that is empty or holds `learned`: what it took, found and learned."""
        entry = self.cache.entry(f"{self.W0.shape[0]}x{self.W0.shape[1]}-{next(self.entries)}", self.W0)
        if learned is not None:
            entry.save_leading(learned)
        synchronise(self.W0.device)
        began, cpu = time.perf_counter(), time.process_time()
        base = self.base(self.W0, entry)
        found = self.certified(base, tuned, K, EPSILON)
        synchronise(self.W0.device)
        return Taken(time.perf_counter() - began, time.process_time() - cpu), found, base.leading

    def timed(self, tuned: Sequence[Any], *, learned: Any = None, repeats: int = 5) -> tuple[Taken, Any, Any]:
        """The median of some scans, each number for itself; the first one warms up the libraries and the memory."""
        runs = [self.once(tuned, learned) for _ in range(repeats + 1)]
        taken = [sorted(each)[repeats // 2] for each in zip(*(run[0] for run in runs[1:]), strict=True)]
        return Taken(*taken), runs[-1][1], runs[-1][2]


def synchronise(device: torch.device | str) -> None:
    """Wait for a GPU to have done all that it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def updates(W0: torch.Tensor, kind: str, seed: int) -> list[Any]:
    """Updates of a kind: a LoRA of rank 8, or a dense one as full fine-tuning makes it."""
    shape, tuned = (W0.shape[0], W0.shape[1]), engine("tuned").Tuned
    seeds = range(seed + 1, seed + 2 + TOGETHER)
    if kind == "low-rank":
        made = (synthetic.low_rank(*shape, i) for i in seeds)
        return [tuned(update=update.to(dtype=W0.dtype, device=W0.device)) for update in made]
    return [tuned(W=Dense(W0 + synthetic.dense(*shape, i).to(W0.device))) for i in seeds]


def main() -> None:
    """Answer the lines of standard input."""
    with tempfile.TemporaryDirectory(prefix="bench-worker-") as folder:
        answer = sys.stdout
        sys.stdout = sys.stderr
        for line in sys.stdin:
            asked = json.loads(line)
            told: dict[str, object] | None = None
            if "shape" in asked:
                W0 = synthetic.base(*asked["shape"], asked["seed"])
                # A folder of its own: a first scan finds no factors of the same W0 with another kind of update.
                bench = Bench(W0, Path(tempfile.mkdtemp(dir=folder)))
                one, *more = updates(W0, asked["update"], asked["seed"])
                _, _, learned = bench.once([one])  # warms up, and what it learns is what the others start from
                given = dict(zip(SCANS, (([one], None), (more[:1], learned), (more, learned)), strict=True))
            else:
                taken, found, _ = bench.once(*given[asked["scan"]])
                share = len(found)
                verdicts = [bool(high < EPSILON) for each in found for high in each.upper]
                told = {"wall": taken.wall / share, "cpu": taken.cpu / share, "verdicts": verdicts}
            print(json.dumps(told), file=answer, flush=True)


if __name__ == "__main__":
    main()
