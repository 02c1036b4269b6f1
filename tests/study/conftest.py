"""One small study on a tiny random model, run once in this process."""

from pathlib import Path
from typing import Any

import pytest

from spectra.study import Study, run_study
from tests import tiny


def tiny_study(folder: Path) -> dict[str, Any]:
    """Two methods, three seeds and a few steps."""
    heldout = tiny.save_sentiment(folder / "heldout.jsonl", 200, seed=5)
    return {
        "title": "A tiny study",
        "base": tiny.save_model(folder / "bert", "bert"),
        "task": tiny.save_sentiment(folder / "task.jsonl", 300),
        "heldout": [{"task": f"{heldout}:nearest-neighbour", "max_length": 16}],
        "methods": [
            {"method": "full", "learning_rate": [1e-2, 1e-3]},
            {"method": "lora", "rank": [4], "learning_rate": 3e-2},
        ],
        "seeds": [0, 1, 2],
        "steps": 12,
        "batch_size": 4,
        "max_length": 16,
        "trajectory": 3,
        "k": 3,
        "study": {"interventions": {"lambdas": [0.0], "controls": ["shrink"], "resamples": 200}},
    }


@pytest.fixture(scope="session")
def specification(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return tiny_study(tmp_path_factory.mktemp("study-inputs"))


@pytest.fixture(scope="session")
def study(specification: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Study:
    return run_study(specification, tmp_path_factory.mktemp("studies") / "whole", executor="inline")
