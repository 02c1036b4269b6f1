"""Choose the learning rates of the preset minilm: on the task's validation score, and on nothing else.

Trains every configuration of the preset at the rates of its grid, prints one line each as it ends, and last the
table. No held-out task is measured, no spectrum is looked at and the test split is not touched.

    python scripts/choose_learning_rates.py [--steps N] >> reports/learning_rates.md
"""

import argparse
import sys
import tempfile
from pathlib import Path

from spectra.data import load_task
from spectra.records.provenance import commit, hardware
from spectra.sweep import PlannedTrial, Specification, read_specification
from spectra.sweep.spec.plan import plan
from spectra.training.driver import train

GRIDS = {
    "full": [3e-5, 1e-4, 3e-4],
    "lora, 2r": {1: [1e-3, 3e-3, 1e-2], 8: [3e-4, 1e-3, 3e-3, 1e-2], 64: [1e-4, 3e-4, 1e-3, 3e-3]},
    "lora, 8": [3e-4, 1e-3, 3e-3, 1e-2],
}


def with_grids(preset: str) -> Specification:
    """The preset with each method's grid in the place of its chosen rate."""
    values = read_specification(preset).model_dump(exclude_unset=True)
    for method in values["methods"]:
        alpha = method["alpha"][0] if method.get("alpha") else None
        name = "full" if alpha is None else f"{method['method']}, {alpha if isinstance(alpha, str) else f'{alpha:g}'}"
        method["learning_rate"] = GRIDS[name]
    return read_specification(values)


def validation_scores(specification: Specification) -> list[tuple[PlannedTrial, float]]:
    """Every trial with its validation score."""
    task = load_task(specification.task)
    scores = []
    for trial in plan(specification):
        with tempfile.TemporaryDirectory() as folder:
            trained = train(trial.training, task, Path(folder))
        scores.append((trial, trained.validation.score))
        rate, score = trial.learning_rate, trained.validation.score
        print(f"{trial.label}, {rate:g}: {score:.4f}, {trained.seconds:.0f} s", file=sys.stderr, flush=True)
    return scores


def print_table(scores: list[tuple[PlannedTrial, float]]) -> None:
    """Markdown: one line per trial, the best of each configuration in bold; of equal scores the smaller rate."""
    best: dict[str, tuple[float, float]] = {}
    for trial, score in scores:
        offer = (score, -trial.learning_rate)
        best[trial.group] = max(best.get(trial.group, offer), offer)
    print("| configuration | learning rate | validation score |\n|---|---|---|")
    for trial, score in scores:
        rate = trial.learning_rate
        mark = "**" if best[trial.group] == (score, -rate) else ""
        print(f"| {trial.label} | {rate:g} | {mark}{score:.4f}{mark} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="minilm", help="preset to choose for (default: %(default)s)")
    parser.add_argument("--steps", type=int, help="optimiser steps instead of the preset's")
    given = parser.parse_args()
    specification = with_grids(given.preset)
    if given.steps:
        specification = read_specification(specification, [f"steps={given.steps}"])
    scores = validation_scores(specification)
    print(f"Preset `{given.preset}`, {specification.steps} steps, seed {specification.seeds[0]}, commit {commit()}, "
          f"{hardware()['cpus']} CPUs; command: `python {' '.join(sys.argv)}`\n")  # fmt: skip
    print_table(scores)


if __name__ == "__main__":
    main()
