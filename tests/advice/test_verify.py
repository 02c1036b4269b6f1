import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from spectra.advice import Advice, Verification, advise, verify_advice
from spectra.cli.main import main
from spectra.errors import RunError
from spectra.runs import Run
from spectra.sweep import run_sweep
from tests import tiny

SETTINGS = {"k": 4, "draws": 2, "measure": False, "max_rank": 6}


@pytest.fixture(scope="module")
def specification(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("inputs")
    return {
        "base": tiny.save_model(folder / "bert", "bert"),
        "task": tiny.save_sentiment(folder / "task.jsonl", 120),
        "methods": [
            {"method": "full", "learning_rate": [1e-2]},
            {"method": "lora", "rank": [2], "alpha": ["2r"], "learning_rate": [3e-2]},
        ],
        "steps": 6,
        "batch_size": 4,
        "max_length": 16,
        "k": 4,
        "keep": "all",
    }


@pytest.fixture(scope="module")
def run(specification: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_sweep(specification, tmp_path_factory.mktemp("runs") / "tiny", executor="inline")


@pytest.fixture(scope="module")
def advice(run: Run) -> Advice:
    return advise(run.path, **SETTINGS)


@pytest.fixture(scope="module")
def verification(advice: Advice, run: Run) -> Verification:
    return verify_advice(advice, run.path, run.path.with_name("advised"), executor="inline").verification


def test_a_run_gives_ranks_from_the_full_trial_and_scales_from_the_lora_trial(advice: Advice) -> None:
    evidence = " ".join(advice.evidence)
    assert "(fully tuned; 12 matrices; trial 'full' at learning rate 0.01, seed 0)" in evidence
    assert "(lora, rank 2; 12 matrices; trial 'LoRA r=2 α=4' at learning rate 0.03, seed 0)" in evidence
    assert "The run has 1 seed; one trial of each kind was looked at." in evidence
    assert max(matrix.rank for matrix in advice.matrices) > 2  # of the full update, not of the adapter
    assert all(matrix.alpha_in_use == 2 * matrix.rank for matrix in advice.matrices)


def test_what_is_trained_has_the_advised_ranks_and_alphas(advice: Advice, verification: Verification) -> None:
    [trial] = Run.open(verification.run).trials()
    config = json.loads((trial.adapter / "adapter_config.json").read_text())
    advised = advice.lora_config()
    assert (config["r"], config["lora_alpha"]) == (advised["r"], advised["lora_alpha"])
    assert config["rank_pattern"] == advised["rank_pattern"]
    assert config["alpha_pattern"] == advised["alpha_pattern"]
    assert sorted(config["target_modules"]) == sorted(advised["target_modules"])
    assert trial.specification["learning_rate"] == 3e-2


def test_the_outcome_stands_beside_the_trials_it_came_from(run: Run, verification: Verification) -> None:
    labels = [one.label for one in verification.outcomes]
    assert labels == ["advised", "full", "LoRA r=2 α=4"]
    scores = run.table("trials").set_index("label")["validation_score"]
    for one in verification.outcomes[1:]:
        assert one.figures["validation_score"] == pytest.approx(scores[one.label])
    rows = Run.open(verification.run).table("matrices")
    assert verification.matrices == len(rows) == 12
    assert verification.found == int((rows["count"] > 0).sum())
    assert 0 <= verification.agreeing <= 12


def test_the_thresholds_are_held_against_the_trained_spectral_norms(advice: Advice, verification: Verification) -> None:
    rows = Run.open(verification.run).table("matrices").set_index("name")
    above = agreeing = 0
    for matrix in advice.matrices:
        assert matrix.critical is not None
        assert matrix.spectral is not None
        expected = bool(rows.loc[matrix.name, "update_spectral"] > matrix.critical.predicted * matrix.spectral)
        above += expected
        agreeing += expected == bool(rows.loc[matrix.name, "count"] > 0)
    assert (verification.predicted, verification.agreeing) == (above, agreeing)


def test_a_checkpoint_cannot_be_verified_because_it_does_not_say_how_it_was_trained(
    advice: Advice, run: Run, tmp_path: Path
) -> None:
    adapter = next(trial.adapter for trial in run.trials() if trial.adapter.is_dir())
    with pytest.raises(RunError, match="is no run folder"):
        verify_advice(advice, adapter, tmp_path / "out")


def test_a_run_that_dropped_all_weights_gives_no_advice(specification: dict[str, Any], tmp_path: Path) -> None:
    lora = [{"method": "lora", "rank": [2], "learning_rate": [3e-2]}]
    dropped = run_sweep({**specification, "methods": lora, "keep": "none"}, tmp_path / "dropped", executor="inline")
    with pytest.raises(RunError, match=r"has its weights any more\. Train it again with keep=all"):
        advise(dropped.path, **SETTINGS)


def test_the_command_shows_advice_and_outcome(
    run: Run, verification: Verification, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The advised trial is finished already, so nothing is trained again."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("SPECTRA_CACHE", str(run.path / "cache"))
    options = [
        "-k",
        "4",
        "--draws",
        "2",
        "--no-measure",
        "--max-rank",
        "6",
        "--verify",
        "--verify-out",
        verification.run,
    ]
    shown = CliRunner().invoke(main, ["advise", str(run.path), *options])
    assert shown.exit_code == 0, shown.output
    assert verification.sentence() in shown.stdout
