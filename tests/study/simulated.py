"""Simulated studies: tables in which forgetting comes from intruders, from the norm, or from neither."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from spectra.runs.schema import tidy
from spectra.runs.study_schema import study_table
from spectra.study.tables import StudyTables

World = Literal["intruders", "norm", "neither"]
HELDOUT = "held-out"
SLOTS = 280
# Method, rank, alpha, and how many of 100 leading vectors become intruders once the update is large.
CONFIGURATIONS: tuple[tuple[str, int | None, float | None, float], ...] = (
    ("full", None, None, 3.0),
    ("lora", 1, 2.0, 10.0),
    ("lora", 2, 4.0, 20.0),
    ("lora", 4, 8.0, 35.0),
    ("lora", 8, 16.0, 55.0),
    ("lora", 64, 128.0, 25.0),
    ("lora", 64, 8.0, 45.0),
    ("rslora", 8, 16.0, 60.0),
)
RATES = (1e-4, 3e-4, 1e-3, 3e-3)
SEED_SPREAD = 0.08  # of forgetting, between seeds
SETTING_SPREAD = 0.04  # of forgetting, between configurations, and between settings of one


@dataclass(frozen=True)
class Plant:
    """What is true in a simulated study.

    Attributes:
        world: What forgetting comes from.
        per_share: Nats that a percentage point of intruders costs, in the world "intruders".
        shape: How forgetting grows with the norm: "linear", "log" or "square".
        norm_noise: Spread of the measured log norm about the true one.
        contrast: Whether adapters have more intruders than their control, and than full fine-tuning.
        rise: Whether counts rise with the learning rate and the steps.
        seeds: Number of seeds.
    """

    world: World = "neither"
    per_share: float = 0.03
    shape: str = "linear"
    norm_noise: float = 0.0
    contrast: bool = False
    rise: bool = False
    seeds: int = 5


def simulated(plant: Plant, generator: np.random.Generator) -> StudyTables:
    """The tables of one study."""
    trials, forgotten, contrasts, trajectory = [], [], [], []
    common = generator.normal(0, 0.03, plant.seeds)  # what a seed does to every trial alike
    for number, (method, rank, alpha, cap) in enumerate(CONFIGURATIONS):
        label = method if rank is None else f"{method} r={rank} a={alpha:g}"
        offset = generator.normal(0, SETTING_SPREAD)
        for position, rate in enumerate(RATES):
            size = -2.2 + 0.55 * position + 0.06 * number + generator.normal(0, 0.1)
            height = cap if plant.contrast else 20.0
            share = height / (1 + np.exp(-2.5 * (size + 1))) if plant.rise else height / 2
            setting = generator.normal(0, SETTING_SPREAD)
            for seed in range(plant.seeds):
                name = f"{number}-{position}-{seed}"
                chance = 0.3 if plant.contrast and method != "full" else 1.0
                count = int(generator.poisson(share * SLOTS / 100))
                caused = {
                    "intruders": plant.per_share * 100 * count / SLOTS,
                    "norm": {"linear": 2 * np.exp(size), "log": 0.6 * size + 1.5, "square": 2 * np.exp(2 * size)}[
                        plant.shape
                    ],
                    "neither": 0.5,
                }[plant.world]
                lost = caused + offset + setting + common[seed] + generator.normal(0, SEED_SPREAD)
                chosen = position == 2
                trials.append(
                    {
                        "trial": name, "label": label, "method": method, "rank": rank, "alpha": alpha,
                        "learning_rate": rate, "seed": seed, "steps": 100, "chosen": chosen,
                        "validation_score": -3 + 0.3 * position + (method == "full") * (0.4 * position - 0.6)
                        + generator.normal(0, 0.03),
                        "count": count, "slots": SLOTS,
                        "control": "dense gaussian" if method == "full" else "random low rank",
                        "control_count": int(generator.poisson(chance * share * SLOTS / 100)),
                        "update_relative": float(np.exp(size + generator.normal(0, plant.norm_noise))),
                        "used": True, "intervention": "done" if chosen else "",
                    }
                )  # fmt: skip
                trials[-1]["beyond_control"] = count - trials[-1]["control_count"]
                forgotten.append({"trial": name, "heldout": HELDOUT, "forgetting": lost})
                trajectory += [
                    {"trial": name, "step": step, "count": int(generator.poisson(
                        share * (step / 100 if plant.rise else 1) * SLOTS / 100))}
                    for step in (25, 50, 100)
                ]  # fmt: skip
                if chosen:
                    mended = 0.3 * caused if plant.world == "intruders" else 0.0
                    contrasts.append(_contrast(name, mended + 0.3 * common[seed], generator))
    return StudyTables(
        trials=study_table("study_trials", trials),
        forgetting=tidy("forgetting", forgotten),
        trajectory=tidy("trajectory", trajectory),
        interventions=tidy("interventions", []),
        contrasts=tidy("intervention_contrasts", contrasts),
        primary=HELDOUT,
        trials_of_the_sweep=pd.DataFrame(columns=["method", "status", "chosen"]),
    )


def _contrast(trial: str, effect: float, generator: np.random.Generator) -> dict[str, Any]:
    value, area = effect + generator.normal(0, 0.03), effect + generator.normal(0, 0.03)
    return {
        "trial": trial, "control": "shrink", "heldout": HELDOUT, "unit": "nats",
        "forgetting_area": area, "forgetting_low": area - 0.02, "forgetting_high": area + 0.02,
        "equal_score": value, "equal_score_low": value - 0.02, "equal_score_high": value + 0.02,
    }  # fmt: skip
