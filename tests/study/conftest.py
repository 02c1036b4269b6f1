"""One small study on a tiny random model, run once in this process."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from spectra.advice import advise
from spectra.study import Study, advised, run_study
from tests import tiny


def tiny_study(folder: Path) -> dict[str, Any]:
    """Two methods, two seeds and a few steps."""
    heldout = tiny.save_prose(folder / "heldout.jsonl", 100, seed=5)
    return {
        "title": "A tiny study",
        "base": tiny.save_model(folder / "llama", "llama"),
        "task": tiny.save_answers(folder / "task.jsonl", 100),
        "heldout": [{"task": f"{heldout}:lm-loss", "max_length": 16}],
        "methods": [
            {"method": "full", "learning_rate": 1e-2},
            {"method": "lora", "rank": [4], "learning_rate": 5e-2},
        ],
        "seeds": [0, 1],
        "steps": 5,
        "batch_size": 4,
        "max_length": 16,
        "trajectory": 2,
        "k": 3,
        "epsilon": 0.9,
        "study": {"interventions": {"lambdas": [0.0], "controls": ["shrink"], "resamples": 200}},
    }


@pytest.fixture(scope="session")
def specification(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return tiny_study(tmp_path_factory.mktemp("study-inputs"))


@pytest.fixture(scope="session")
def study(specification: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Study:
    with pytest.MonkeyPatch.context() as patch:
        # Thresholds are not what is tested here, and fifteen draws of them take longer than all the rest.
        patch.setattr(advised, "advise", partial(advise, draws=1, measure=False))
        return run_study(specification, tmp_path_factory.mktemp("studies") / "whole", executor="inline")
