"""Where the time of a sweep goes: seconds per part and trial, beside the training loops alone.

    python scripts/bench_sweep.py default --workers 2 [steps=40 ...] [-o TABLE.md]

Runs a specification in a temporary folder, reads the table `timings` and prints one row per part. "Bare training
loops" are training and validation of all trials, one after another in one process; the ratio sets the whole call
against them. Several workers work at the same time, so the parts then add up to more than the call took.
"""

import argparse
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: threads that spin slow whatever else runs

from machine_load import MachineLoad

from spectra.records.provenance import commit, hardware, versions
from spectra.runs import Run
from spectra.sweep import run_sweep

PARTS = ("start", "load", "training", "validation", "trajectory", "scan", "controls", "measuring", "testing")
BARE = ("training", "validation")


def rows(run: Run, seconds: float) -> Iterator[str]:
    """The table of one sweep."""
    timings = run.table("timings")
    trials = timings["trial"].nunique()
    spent = timings.groupby("part")["seconds"].sum()
    for part in PARTS:
        yield f"| {part} | {spent.get(part, 0.0):.1f} | {spent.get(part, 0.0) / trials:.2f} |"
    bare = sum(spent.get(part, 0.0) for part in BARE)
    yield f"| all parts of {trials} trials | {spent.sum():.1f} | {spent.sum() / trials:.2f} |"
    yield f"| the whole call, by the clock | {seconds:.1f} | {seconds / trials:.2f} |"
    yield ""
    yield f"The call took {seconds / bare:.2f} times the training and validation of its trials ({bare:.1f} s)."


def main() -> None:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("specification")
    parser.add_argument("axes", nargs="*")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    load = MachineLoad()
    with tempfile.TemporaryDirectory(prefix="bench-sweep-") as folder:
        began = time.perf_counter()
        run = run_sweep(given.specification, Path(folder) / "run", axes=given.axes, workers=given.workers)
        lines = [*rows(run, time.perf_counter() - began)]
    facts = ", ".join(f"{name} {value}" for name, value in {**versions(), **hardware()}.items())
    text = "\n".join(
        [
            f"`python {shlex.join(sys.argv)}` at commit {commit()}. {facts}.",
            load.told(),
            "",
            "| part | seconds | per trial |",
            "|---|---|---|",
            *lines,
            "",
        ]
    )
    print(text)
    if given.output:
        given.output.write_text(text)


if __name__ == "__main__":
    main()
