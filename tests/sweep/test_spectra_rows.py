"""The controls and the spectra of the updates that a trial leaves, against `spectra scan` and NumPy."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from spectra import scan
from spectra.engine import factors
from spectra.linalg.svd import thin_svd
from spectra.runs import Run
from spectra.runs.trial import TrialFolder
from spectra.sweep import run_sweep
from spectra.sweep.spec.read import read_specification
from spectra.sweep.trial import spectra_rows
from spectra.weights import open_pair
from tests.scanning.checkpoints import save


@pytest.fixture(scope="module")
def kept(specification: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A sweep of one full and one LoRA trial whose weights stay."""
    given = {**specification, "heldout": [], "keep": "all", "trajectory": 0}
    axes = ["learning_rate=3e-2", "rank=4"]
    return run_sweep(given, tmp_path_factory.mktemp("kept") / "run", axes=axes, executor="inline")


@pytest.fixture(scope="module")
def trials(kept: Run) -> dict[str, Path]:
    found = {folder.id: folder.weights for folder in kept.trials()}
    return {trial: weights for trial, weights in found.items() if weights is not None}


def test_the_counts_of_the_controls_are_those_of_a_scan_with_the_same_seed(
    kept: Run, trials: dict[str, Path], specification: dict[str, Any]
) -> None:
    controls = kept.table("controls")
    assert set(controls["trial"]) == set(trials)
    for trial, weights in trials.items():
        expected = {}
        for matrix in scan(weights, specification["base"], metrics="intruders,nulls", seed=0).matrices:
            [count] = [measure for measure in matrix.measures if measure.metric == "intruders.count"]
            expected |= {(matrix.name, line.null): line.mean for line in count.nulls}
        mine = controls[controls["trial"] == trial]
        assert mine.groupby(["name", "control"])["is_intruder"].sum().to_dict() == expected
        assert set(mine["control"]) == {"storage rounding", "dense gaussian", "random low rank"}
        assert (
            mine.groupby(["name", "control"])["index"].apply(list).apply(lambda found: found == list(range(10)))
        ).all()
    assert (controls["is_intruder"] == (controls["upper"] < 0.5)).all()


def test_the_spectra_of_the_updates_are_those_of_the_dense_differences(
    kept: Run, trials: dict[str, Path], specification: dict[str, Any]
) -> None:
    table = kept.table("update_spectra")
    lengths = set()
    for trial, weights in trials.items():
        for pair in open_pair(specification["base"], weights).matrices:
            W0 = pair.W0.load(dtype=torch.float64).numpy()
            delta = pair.W_tuned(torch.float64, "cpu").numpy() - W0
            mine = table[(table["trial"] == trial) & (table["name"] == str(pair.name))]
            assert mine["index"].tolist() == list(range(len(mine)))
            expected = np.linalg.svd(delta, compute_uv=False)
            lengths.add(len(mine))
            # float32 arithmetic on weights near one: differences carry 1e-7 of W0's norm.
            np.testing.assert_allclose(
                mine["value"], expected[: len(mine)], rtol=1e-3, atol=1e-5 * np.linalg.norm(W0, 2)
            )
            assert len(mine) == (4 if (weights / "adapter_config.json").exists() else min(64, *delta.shape))
    assert 4 in lengths and len(lengths) > 1


def test_a_sweep_without_controls_has_none_and_still_its_spectra(specification: dict[str, Any], tmp_path: Path) -> None:
    given = {**specification, "heldout": [], "trajectory": 0, "steps": 2, "controls": False}
    run = run_sweep(given, tmp_path / "run", axes=["method=lora", "rank=1"], executor="inline")
    assert len(run.table("controls")) == 0
    assert len(run.table("update_spectra")) == len(run.table("matrices"))


def test_a_second_trial_opens_its_pair_once_and_factorises_no_base_matrix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPECTRA_CACHE", str(tmp_path / "cache"))
    saved = save(tmp_path)
    specification = read_specification(
        {"base": str(saved.base), "checkpoints": [str(path) for path in saved.adapters], "k": 4}, ()
    )
    factorised, opened = [], []
    monkeypatch.setattr(factors, "thin_svd", lambda W: factorised.append(W.shape) or thin_svd(W))
    monkeypatch.setattr(spectra_rows, "open_pair", lambda *sides: opened.append(sides) or open_pair(*sides))
    for number, adapter in enumerate(saved.adapters, start=1):
        spectra_rows.scan_trial(TrialFolder(tmp_path / f"trial-{number}"), adapter, str(saved.base), specification)
        assert len(factorised) == 14  # each W0 by the first trial, none by the second
        assert len(opened) == number
    [*tables] = [TrialFolder(tmp_path / f"trial-{number}").rows("controls") for number in (1, 2)]
    [*rounded] = [table[table["control"] == "storage rounding"].drop(columns="trial") for table in tables]
    pd.testing.assert_frame_equal(*rounded)  # what rounding does to W0 does not depend on the trial
