"""One small sweep on a tiny model, and its table from an undisturbed run in this process."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from spectra.runs import SCHEMAS, Run
from spectra.sweep import run_sweep
from tests import tiny

# What depends on the machine's mood and not on the specification.
MOODS = ["train_seconds", "tokens_per_second", "peak_memory_bytes"]


def outcome(run: Run) -> pd.DataFrame:
    """The trials table without timings."""
    return run.table("trials").drop(columns=MOODS)


def assert_same_tables(run: Run, expected: Run) -> None:
    """Every table is the same to the bit, but for times."""
    for name in SCHEMAS.keys() - {"timings"}:
        table, other = (one.table(name).drop(columns=[*MOODS, "seconds"], errors="ignore") for one in (run, expected))
        pd.testing.assert_frame_equal(table, other, check_exact=True, obj=name)


@pytest.fixture(scope="session")
def specification(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("inputs")
    heldout = tiny.save_sentiment(folder / "heldout.jsonl", 200, seed=5)
    return {
        "base": tiny.save_model(folder / "bert", "bert"),
        "task": tiny.save_sentiment(folder / "task.jsonl", 300),
        "heldout": [{"task": heldout, "max_length": 16}, f"{heldout}:nearest-neighbour"],
        "methods": [
            {"method": "full", "learning_rate": [1e-2, 1e-3]},
            {"method": "lora", "rank": [1, 4], "learning_rate": 3e-2},
        ],
        "steps": 12,
        "batch_size": 4,
        "max_length": 16,
    }


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """Answers of a tiny Llama: 22 training rows are five batches of four and one of two."""
    return {
        "base": tiny.save_model(tmp_path / "llama", "llama"),
        "task": {"name": "answers", "path": tiny.save_answers(tmp_path / "answers.jsonl", 60)},
        "methods": [{"method": "full", "learning_rate": 1e-2}],
        "steps": 8,
        "batch_size": 4,
        "max_length": 16,
        "train_examples": 22,
        "trajectory": 2,
        "controls": False,
        "keep": "all",
    }


@pytest.fixture(scope="session")
def undisturbed(specification: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_sweep(specification, tmp_path_factory.mktemp("runs") / "undisturbed", executor="inline")
