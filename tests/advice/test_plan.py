"""A plan on a tiny encoder: what it advises, writes and refuses, and the forecasts behind it."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

import spectra
from spectra.advice.planning.forecast import (
    WIDTH,
    Law,
    chance_above,
    effective_steps,
    expected_above,
    interpolated,
    interval,
)
from spectra.advice.planning.pilot import GRADIENT_RATE
from spectra.advice.ranks import RankRule
from spectra.cli.main import main
from spectra.cli.plan import print_plan
from spectra.errors import DestinationError, ModelError, SpecificationError, SpectraError
from spectra.linalg.density import Spectrum
from spectra.runs import Run
from spectra.weights import open_pair
from tests import tiny

SHORT = {"steps": 6, "pilot_steps": 2, "batch_size": 4, "max_length": 16, "k": 4, "draws": 1}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("plan")
    return SimpleNamespace(
        base=tiny.save_model(folder / "bert", "bert"),
        task=tiny.save_sentiment(folder / "task.jsonl", 60),
        heldout=f"{tiny.save_sentiment(folder / 'held.jsonl', 60, seed=5)}:nearest-neighbour",
        prose=tiny.save_prose(folder / "prose.jsonl", 40),
        out=folder / "out",
    )


@pytest.fixture(scope="module")
def planned(world: SimpleNamespace) -> spectra.TrainingPlan:
    return spectra.plan(
        world.base, world.task, heldout=[world.heldout], out=world.out, budget=900, executor="inline", **SHORT
    )


def test_ranks_and_modules_are_within_the_budget_and_come_from_the_pilots_update(
    world: SimpleNamespace, planned: spectra.TrainingPlan
) -> None:
    assert 0 < planned.advice.parameters <= 900
    trials = Run.open(world.out / "pilot").table("trials")
    full = trials[(trials["method"] == "full") & trials["chosen"].astype(bool)]["trial"].iloc[0]
    weights = Run.open(world.out / "pilot").trial(full).weights
    energy = {
        str(matrix.name): np.linalg.svd(matrix.delta_W().double().numpy(), compute_uv=False) ** 2
        for matrix in open_pair(world.base, weights).matrices
    }
    costs = {str(matrix.name): sum(matrix.shape) for matrix in open_pair(world.base, weights).matrices}
    ranks = {matrix.name: matrix.rank for matrix in planned.matrices}
    # Water-filling: no direction that was left out holds more energy per number than one that was taken, unless it is
    # too dear for what is left.
    left = 900 - planned.advice.parameters
    taken = min(energy[name][rank - 1] / costs[name] for name, rank in ranks.items())
    for name, own in energy.items():
        rank = ranks.get(name, 0)
        if rank < len(own) and costs[name] <= left:
            assert own[rank] / costs[name] <= taken * (1 + 1e-4)
    for matrix in planned.matrices:
        assert matrix.energy_kept == pytest.approx(
            energy[matrix.name][: matrix.rank].sum() / energy[matrix.name].sum(), rel=1e-3
        )


def test_the_gradient_is_that_of_one_step_of_plain_descent(
    world: SimpleNamespace, planned: spectra.TrainingPlan
) -> None:
    run = Run.open(world.out / "gradient")
    [trial] = run.trials()
    whole = 0.0
    for matrix in open_pair(world.base, trial.weights).matrices:
        S = np.linalg.svd(matrix.delta_W().double().numpy(), compute_uv=False)
        p = S / S.sum()
        whole += float((S**2).sum())
        mine = [one for one in planned.matrices if one.name == str(matrix.name)]
        for one in mine:
            assert one.gradient_rank == pytest.approx(math.exp(-(p * np.log(p)).sum()), rel=2e-2)
    assert 0 < whole**0.5 <= GRADIENT_RATE * (1 + 1e-3)  # clipped to norm 1 as a whole, head included
    assert sum(one.gradient_share or 0 for one in planned.matrices) <= 1 + 1e-6


def test_every_grid_has_a_neighbour_on_either_side(planned: spectra.TrainingPlan) -> None:
    rates = [one.learning_rate for one in planned.rates]
    assert rates == sorted(rates)
    assert [one.is_middle for one in planned.rates] == [False, True, False]
    assert planned.learning_rate == rates[1]
    sizes = np.array([matrix.sizes for matrix in planned.matrices])
    risks = np.array([matrix.risks for matrix in planned.matrices])
    assert (np.diff(sizes, axis=1) > 0).all()
    assert ((risks >= 0) & (risks <= 1)).all()
    assert (np.diff(risks, axis=1) >= 0).all()
    for one in planned.rates:
        assert 0 <= one.low <= one.with_intruders + 1e-9
        assert one.with_intruders <= one.high + 1e-9
        assert one.high <= len(planned.matrices)
        assert [lost.heldout for lost in one.forgetting] == ["held:nearest-neighbour"]
    for matrix in planned.matrices:
        assert matrix.safe is not None and matrix.critical is not None
        assert matrix.safe < matrix.critical_low <= matrix.critical <= matrix.critical_high


def test_peft_loads_the_configuration_and_builds_what_was_counted(
    world: SimpleNamespace, planned: spectra.TrainingPlan
) -> None:
    config = LoraConfig.from_pretrained(str(world.out))
    model = get_peft_model(AutoModelForSequenceClassification.from_pretrained(world.base, num_labels=2), config)
    factors = {name: one for name, one in model.named_parameters() if "lora_" in name}
    assert sum(one.numel() for one in factors.values()) == planned.advice.parameters
    ranks = {matrix.name: matrix.rank for matrix in planned.matrices}
    for name, one in factors.items():
        if "lora_A" in name:
            module = next(known for known in ranks if f".{known}." in name)
            assert one.shape[0] == ranks[module]
    assert any("classifier" in name and one.requires_grad for name, one in model.named_parameters())


def test_the_sweep_tests_the_advice_against_the_rules_of_thumb(
    world: SimpleNamespace, planned: spectra.TrainingPlan
) -> None:
    specification = yaml.safe_load((world.out / "sweep.yaml").read_text())
    advised, eight, sixteen, full = specification["methods"]
    assert advised["learning_rate"] == [one.learning_rate for one in planned.rates]
    assert advised["arguments"]["target_modules"] == [matrix.name for matrix in planned.matrices]
    assert (eight["rank"], sixteen["rank"], eight["alpha"]) == ([8], [16], ["2r"])
    assert float(f"{10 * full['learning_rate'][1]:.2g}") in eight["learning_rate"]
    trials = spectra.plan_sweep(str(world.out / "sweep.yaml"), world.out / "test")
    assert len(trials) == sum(len(method["learning_rate"]) for method in specification["methods"])
    assert specification["steps"] == 6


def test_the_same_question_gives_the_same_plan_and_trains_nothing_twice(
    world: SimpleNamespace, planned: spectra.TrainingPlan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SPECTRA_CACHE", str(tmp_path))
    before = {path: path.stat().st_mtime_ns for path in world.out.glob("*/trials/*/history.*")}
    arguments = ["plan", world.base, "--task", world.task, "--heldout", world.heldout, "-o", str(world.out)]
    arguments += ["--budget", "900", "--steps", "6", "--pilot-steps", "2", "--batch-size", "4", "--max-length", "16"]
    arguments += ["-k", "4", "--draws", "1"]
    shown = CliRunner().invoke(main, [*arguments, "--json", "-q"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout) == json.loads(json.dumps(planned.to_dict()))
    assert before and before == {path: path.stat().st_mtime_ns for path in before}
    other = CliRunner().invoke(main, [*arguments[:-1], "3", "-q"])
    assert other.exit_code == 1
    assert "holds the plan of another question. Add --force" in other.stderr


def test_another_folder_gets_the_same_numbers(world: SimpleNamespace, planned: spectra.TrainingPlan) -> None:
    again = spectra.plan(world.base, world.task, heldout=[world.heldout], budget=900, executor="inline", **SHORT)
    assert again.lora_config() == planned.lora_config()
    assert again.rates == planned.rates
    assert again.matrices == planned.matrices


def test_the_command_shows_rates_matrices_and_evidence(
    planned: spectra.TrainingPlan, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    print_plan(planned, Path("plans/x"))
    shown = capsys.readouterr().out
    assert "* advised, between its neighbours" in shown
    assert all(sentence in shown for sentence in planned.evidence)
    assert planned.matrices[0].name[:12] in shown  # long names fold
    assert "spectra sweep plans/x/sweep.yaml" in shown


def test_the_record_becomes_a_table_and_html(planned: spectra.TrainingPlan) -> None:
    table = planned.to_dataframe()
    assert list(table["name"]) == [matrix.name for matrix in planned.matrices]
    assert f"risk_at_{planned.learning_rate:g}" in table
    assert "(advised)" in planned._repr_html_()
    assert "Risk of intruders" in planned._repr_html_()


def _nan(folder: Path, base: str) -> str:
    shutil.copytree(base, folder)
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.0.attention.self.query.weight"][0, 0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda w, t: {"base": str(t / "absent")}, ModelError, "There is no model folder"),
        (lambda w, t: {"task": str(t / "absent.jsonl")}, SpectraError, "absent.jsonl"),
        (lambda w, t: {"task": w.prose}, ModelError, "reads a text in both directions"),
        (lambda w, t: {"base": _nan(t / "nan", w.base)}, SpectraError, "NaN or infinity"),
        (lambda w, t: {"pilot_steps": 6}, SpecificationError, "nothing to foresee. Use fewer pilot_steps"),
        (lambda w, t: {"steps": 0}, SpecificationError, "steps is 0"),
        (lambda w, t: {"budget": 0}, SpectraError, "budget is 0"),
        (lambda w, t: {"tolerance": float("nan")}, SpecificationError, "tolerance is nan"),
        (lambda w, t: {"heldout": [f"{w.prose}:rouge-l"]}, SpectraError, "rouge-l"),
        (lambda w, t: {"out": _foreign(t / "foreign")}, DestinationError, "holds other files"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_trained(
    world: SimpleNamespace,
    tmp_path: Path,
    change: Callable[[SimpleNamespace, Path], dict[str, Any]],
    error: type[SpectraError],
    message: str,
) -> None:
    given = {"base": world.base, "task": world.task, "out": tmp_path / "out", **SHORT, **change(world, tmp_path)}
    with pytest.raises(error, match=message):
        spectra.plan(given.pop("base"), given.pop("task"), executor="inline", **given)
    assert not list(tmp_path.rglob("trials"))


def _foreign(folder: Path) -> Path:
    folder.mkdir()
    (folder / "thesis.tex").write_text("mine")
    return folder


# The forecasts.


def test_a_planted_spectrum_gets_the_rank_it_was_planted_with() -> None:
    planted = [Spectrum.known(torch.tensor([3.0] * rank + [1e-4] * (16 - rank))) for rank in (1, 5, 12)]
    shapes = [(16, 16)] * 3
    assert RankRule(0.99).ranks(planted, shapes) == [1, 5, 12]
    assert RankRule(0.99, max_rank=4).ranks(planted, shapes) == [1, 4, 4]
    assert sum(RankRule(budget=18 * 32).ranks(planted, shapes)) == 18


def test_the_sum_of_the_schedule_is_that_of_its_factors() -> None:
    assert effective_steps(100, warmup=0.0) == pytest.approx(50.5)
    assert effective_steps(20) < effective_steps(150)


@given(slope=st.floats(0.3, 1.8), rate=st.floats(1e-4, 1.0))
def test_a_power_of_the_rate_is_carried_on_exactly(slope: float, rate: float) -> None:
    points = [(one, 7 * one**slope) for one in (1e-3, 3e-3, 1e-2)]
    assert interpolated(points, rate) == pytest.approx(7 * rate**slope)


def test_beyond_the_pilot_a_slope_stays_within_bounds() -> None:
    assert interpolated([(1e-3, 1.0), (1e-2, 1.0)], 1.0) == pytest.approx(100**0.2)
    assert interpolated([(1e-3, 1.0), (1e-2, 1e6)], 1.0) == pytest.approx(1e6 * 100**2)


def test_chances_and_intervals_hold_what_they_promise_under_their_own_model() -> None:
    law = Law(growth=0.5, by_rank=0.0, offset=0.1, shared=0.4, own=0.3)
    drawn = np.random.default_rng(0)
    sizes = drawn.uniform(0.5, 2.0, 40)
    counts, above, inside = [], 0.0, 0
    for _ in range(2000):
        true = sizes * np.exp(law.shared * drawn.normal() + law.own * drawn.normal(size=40))
        counts.append((true > 1).sum())
        above += (true[0] > 1) / 2000
        low, high = interval(sizes[0], law)
        inside += low <= true[0] <= high
    assert chance_above(sizes[0], 1.0, law.error) == pytest.approx(above, abs=0.04)
    assert inside / 2000 == pytest.approx(0.8, abs=0.03)
    mean, low, high = expected_above(list(sizes), [1.0] * 40, law)
    assert mean == pytest.approx(np.mean(counts), abs=0.6)
    # The interval adds both errors at their ends, and so holds at least what it promises.
    assert np.mean([low <= count <= high for count in counts]) >= 0.8
    assert abs(WIDTH - 1.2816) < 1e-3
