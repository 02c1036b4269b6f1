"""Fabricated tables of an intervention: every arm, its contrasts, and the folder that holds them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spectra.runs import tidy
from spectra.storage.tables import write_parquet

ARMS = ("intruders", "shrink", "shrink-all", "random", "random-matched", "neighbour", "stand-in")
FACTORS = (0.0, 0.5, 1.0, 1.5)
SENTENCE = "not distinguishable: scaling the intruders forgets neither less nor more than shrinking"


def rows_of(
    trial: str = "", checkpoint: str = "adapters/news", heldouts: Sequence[str] = ("prose",), task: str = "reviews"
) -> list[dict[str, Any]]:
    rows = []
    for heldout in heldouts:
        for position, arm in enumerate(ARMS):
            for factor in FACTORS:
                forgetting = 0.2 + (factor - 1) * (0.1 - 0.02 * position)
                score = {
                    "task": task,
                    "task_metric": "accuracy",
                    "task_n": 500,
                    "task_score": 0.8 - 0.05 * (factor - 1) ** 2,
                }
                rows.append(
                    {
                        "trial": trial, "checkpoint": checkpoint, "arm": arm, "factor": factor, "edited_matrices": 12,
                        "directions": None if arm.startswith("shrink") else 12, "edit_norm": 3 * abs(factor - 1),
                        "update_norm": 9 + factor, "update_share": (9 + factor) / 10, "heldout": heldout,
                        "metric": "lm-loss", "unit": "nats per token", "n": 300, "base": 1.5, "tuned": 1.5 + forgetting,
                        "forgetting": forgetting, "low": forgetting - 0.03, "high": forgetting + 0.03,
                        "change": forgetting - 0.2, "change_low": forgetting - 0.22, "change_high": forgetting - 0.18,
                        "score_name": "loss", "score": 1.5 + forgetting, **(score if task else {}),
                    }
                )  # fmt: skip
    return rows


def contrasts_of(
    trial: str = "", checkpoint: str = "adapters/news", heldouts: Sequence[str] = ("prose",), task: str = "reviews"
) -> list[dict[str, Any]]:
    return [
        {
            "trial": trial, "checkpoint": checkpoint, "control": arm, "heldout": heldout, "unit": "nats per token",
            "n": 300, "from_factor": 0.0, "forgetting_area": 0.01 * position, "forgetting_low": 0.01 * position - 0.02,
            "forgetting_high": 0.01 * position + 0.02, "task": task, "verdict": "not distinguishable",
            "sentence": f"{heldout}: {SENTENCE}.",
            **({"task_n": 500, "task_area": 0.001, "task_low": -0.002, "task_high": 0.004, "equal_score": -0.01,
                "equal_score_low": -0.03, "equal_score_high": 0.01} if task else {}),
        }
        for heldout in heldouts
        for position, arm in enumerate(ARMS[1:], start=1)
    ]  # fmt: skip


def write_intervention(folder: Path, **described: Any) -> Path:
    """What `spectra intervene -o` leaves, as far as a report reads it."""
    folder.mkdir(parents=True)
    write_parquet(folder / "interventions.parquet", tidy("interventions", rows_of(**described)))
    write_parquet(folder / "intervention_contrasts.parquet", tidy("intervention_contrasts", contrasts_of(**described)))
    settings = {"base": "base-model", "select": "top", "k": 10, "epsilon": 0.5, "lambdas": FACTORS, "seed": 0}
    told = {"checkpoint": described.get("checkpoint", "adapters/news"), "warnings": ["Only 300 examples of prose."]}
    (folder / "interventions.json").write_text(json.dumps({**told, **settings, "versions": {"spectra": "0.1.0"}}))
    return folder
