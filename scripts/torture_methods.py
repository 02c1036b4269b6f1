"""Kill -9 at random moments of a trial of every training method; then run it again and compare bit by bit.

Every round draws a method in turn and a moment: so many events of the sweep (an optimiser step is one), and a part of
the time between two. AdaLoRA is interrupted in every phase of its pruning. The sweep is then run again, and its tables
and its weights are held against those of an undisturbed sweep, bit for bit. Run from the root:

    python -m scripts.torture_methods --seed 0 --rounds 50
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import torch
from datasets import disable_progress_bars
from safetensors.torch import load_file

from spectra.runs import Run
from spectra.sweep import run_sweep
from tests import tiny
from tests.sweep.conftest import assert_same_tables

STEPS = 20
METHODS: dict[str, dict[str, Any]] = {
    "full": {"learning_rate": 1e-2},
    "lora": {"rank": 2, "learning_rate": 3e-2},
    "rslora": {"rank": 2, "learning_rate": 3e-2},
    "dora": {"rank": 2, "learning_rate": 3e-2},
    "pissa": {"rank": 2, "learning_rate": 1e-2},
    "lora+": {"rank": 2, "learning_rate": 1e-2},
    "frozen-a": {"rank": 2, "learning_rate": 3e-2},
    "adalora": {"rank": 2, "learning_rate": 3e-2},
    "vera": {"rank": 4, "learning_rate": 3e-2},
    "peft": {"rank": 2, "learning_rate": 3e-2, "arguments": {"peft_type": "LOHA", "alpha": 4}},
}
# Optimiser steps at which AdaLoRA warms up, prunes, and has pruned: tinit is a tenth of the steps, tfinal a third.
PHASES = {"warming up": range(1, STEPS // 10 + 1), "pruning": range(STEPS // 10 + 1, STEPS - STEPS // 3),
          "pruned": range(STEPS - STEPS // 3, STEPS)}  # fmt: skip


def moments(rounds: int, draw: random.Random) -> Iterator[tuple[str, int | None]]:
    """A method for each round, in turn, and the optimiser step to strike after, where that is not left to chance."""
    phases = [draw.choice(steps) for steps in PHASES.values()]
    for number in range(rounds):
        method = list(METHODS)[number % len(METHODS)]
        yield method, phases.pop(0) if method == "adalora" and phases else None


def specification(folder: Path) -> dict[str, Any]:
    """What all rounds share."""
    heldout = tiny.save_sentiment(folder / "heldout.jsonl", 120, seed=5)
    return {
        "base": tiny.save_model(folder / "bert", "bert"),
        "task": tiny.save_sentiment(folder / "task.jsonl", 200),
        "heldout": [{"task": heldout, "max_length": 16}],
        "steps": STEPS,
        "batch_size": 4,
        "max_length": 16,
        "trajectory": 3,
        "evaluate_every": 7,
        "keep": "all",
    }


def work(given: dict[str, Any], out: Path, told: int | None = None) -> None:
    """The sweep in this process; `told` is the pipe that hears of every event."""

    def on_event(event: Any) -> None:
        if told is not None:
            os.write(told, (json.dumps([event.stage or event.what, event.step]) + "\n").encode())

    # A checkpoint at every step, so that every one of them is written, struck and taken up.
    run_sweep(given, out, executor="inline", save_seconds=0.0, on_event=on_event)


def struck(given: dict[str, Any], out: Path, after: int, at_step: int | None, delay: float) -> str:
    """Run the sweep in a child, and kill it some time after an event; says where it was."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _in_the_child(given, out, writing)
    os.close(writing)
    place = ["nowhere", 0]
    with os.fdopen(reading) as events:
        for number, line in enumerate(events):
            place = json.loads(line)
            if place[1] == at_step if at_step else number == after:
                break
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return f"{place[0]} {place[1]}" if place[1] else str(place[0])


def quiet() -> None:
    """Send what libraries print to nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _in_the_child(given: dict[str, Any], out: Path, told: int | None = None) -> NoReturn:
    """The sweep, and the end of this process: what is raised must not run on in a copy of the parent's frames."""
    code = 1
    try:
        quiet()
        work(given, out, told)
        code = 0
    finally:
        os._exit(code)


def finished(given: dict[str, Any], out: Path) -> None:
    """The sweep to its end, in a child."""
    child = os.fork()
    if child == 0:
        _in_the_child(given, out)
    if os.waitpid(child, 0)[1]:
        raise SystemExit("the sweep did not end well")


def difference(run: Run, expected: Run) -> str:
    """The first difference between two run folders, bit for bit; "" where there is none."""
    try:
        assert_same_tables(run, expected)
    except AssertionError as error:
        return " ".join(str(error).split())[:200]
    for folder in expected.trials():
        for file in sorted(folder.path.rglob("*.safetensors")):
            there, here = load_file(file), load_file(run.trial(folder.id).path / file.relative_to(folder.path))
            if there.keys() != here.keys() or not all(torch.equal(there[name], here[name]) for name in there):
                return f"weights of {file.relative_to(folder.path)}"
    return ""


def main() -> None:
    """Torture, and print one row per round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=50)
    arguments = parser.parse_args()
    disable_progress_bars()
    torch.set_num_threads(1)
    draw = random.Random(arguments.seed)
    differing = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shared = specification(folder)
        print("| round | method | killed after | resumed from | difference |\n|---|---|---|---|---|", flush=True)
        seconds: dict[str, float] = {}
        for number, (method, at_step) in enumerate(moments(arguments.rounds, draw), start=1):
            given = {**shared, "methods": [{"method": method, **METHODS[method]}]}
            expected = folder / f"undisturbed-{method}"
            if not expected.exists():
                began = time.monotonic()
                finished(given, expected)
                seconds[method] = time.monotonic() - began
            out = folder / f"round-{number}"
            delay = draw.uniform(0, seconds[method] / (STEPS + 6))
            place = struck(given, out, draw.randrange(STEPS + 6), at_step, delay)
            checkpoints = sorted(
                int(path.parent.name.rpartition("-")[2]) for path in out.rglob("checkpoint-*/trainer_state.json")
            )
            finished(given, out)
            found = difference(Run.open(out), Run.open(expected))
            differing += bool(found)
            resumed = f"step {checkpoints[-1]}" if checkpoints else "no checkpoint"
            print(f"| {number} | {method} | {place} + {delay:.2f} s | {resumed} | {found or 'none'} |", flush=True)
    print(f"\n{arguments.rounds} interruptions, {differing} with a difference; seed {arguments.seed}.")
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
