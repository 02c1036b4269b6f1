"""`intervene` on small models: planted causes, and what an interrupted run leaves."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import peft
import pytest
import torch

from spectra import intervene, mitigate
from spectra.data import load_task
from spectra.errors import DataError, RunError, SpectrumError
from spectra.forgetting import HeldOut, measure, measure_forgetting, open_held_out
from spectra.interventions import Contrast, InterventionRow, InterventionRun, OwnTask, experiment
from spectra.interventions.verdict import Evidence
from spectra.models import load_tuned
from spectra.runs.schema import BESIDE_RUNS
from spectra.statistics.contrast import Estimate
from tests.interventions import planted

LAMBDAS = (0.0, 0.5, 1.5)
QUESTION: dict[str, Any] = {"k": 1, "lambdas": LAMBDAS, "resamples": 300}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted.save_base(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def prose(base: Path) -> HeldOut:
    return open_held_out(f"{base.parent / 'texts.jsonl'}:lm-loss")


def planted_run(base: Path, prose: HeldOut, cause: planted.Cause, **more: Any) -> InterventionRun:
    tuned = planted.save_tuned(base, base.parent / cause, cause)
    return intervene(tuned, heldout=[prose], base=str(base), **{**QUESTION, "controls": ("shrink", "random"), **more})


def test_forgetting_planted_in_the_intruders_is_attributed_to_them(base: Path, prose: HeldOut) -> None:
    record = planted_run(base, prose, "intruder")
    shrink, random = record.contrasts
    assert (shrink.verdict, random.verdict) == ("intruders", "intruders")
    assert record.treated == ("layers.0.mlp.down_proj", "layers.1.mlp.down_proj")
    by_factor = {row.factor: row for row in record.rows if row.arm == "intruders"}
    # Removal mends most of it; the shrink of the same norm mends next to nothing; amplification makes it worse.
    assert by_factor[0.0].forgetting < 0.5 * by_factor[1.0].forgetting
    assert by_factor[0.0].change_high < 0 < by_factor[1.5].change_low
    shrunk = next(row for row in record.rows if row.arm == "shrink" and row.factor == 0)
    assert shrunk.forgetting > 0.9 * by_factor[1.0].forgetting
    assert shrunk.update_norm == pytest.approx(by_factor[0.0].update_norm, rel=1e-6)
    (sentence,) = record.verdicts.values()
    assert "forgetting is attributed to the intruders: scaling the intruders forgets less than shrinking" in sentence


def test_forgetting_planted_in_the_rest_of_the_update_is_not(base: Path, prose: HeldOut) -> None:
    record = planted_run(base, prose, "rest")
    assert record.directions == 2  # there are intruders, as many as in the other checkpoint
    assert record.contrasts[0].verdict in ("control", "not distinguishable")
    by_factor = {row.factor: row for row in record.rows if row.arm == "intruders"}
    assert by_factor[0.0].forgetting > by_factor[1.0].forgetting > 0.5


def test_with_a_task_that_the_rest_of_the_update_serves_nothing_is_attributed(base: Path, prose: HeldOut) -> None:
    tuned = planted.save_tuned(base, base.parent / "served", "rest")
    model = load_tuned(tuned, base=str(base)).model
    own = OwnTask(load_task(planted.save_texts(model, base.parent / "served.jsonl", seed=5)), max_length=32)
    record = planted_run(base, prose, "rest", task=own)
    contrast = record.contrasts[0]
    assert contrast.verdict in ("control", "not distinguishable")
    assert contrast.task == "served" and contrast.equal_score_low is not None
    assert contrast.equal_score_low <= 0
    scored = {row.factor: row.task_score for row in record.rows if row.arm == "shrink"}
    assert scored[1.0] is not None and record.rows[0].task_metric == "negative loss"


def test_the_point_at_one_is_what_forget_measures(base: Path, prose: HeldOut) -> None:
    record = planted_run(base, prose, "intruder", controls=(), lambdas=())
    ((told,),) = measure_forgetting(
        [str(base.parent / "intruder")], [prose], base=str(base), resamples=300
    ).results.values()
    (row,) = record.rows
    assert (row.forgetting, row.low, row.high) == pytest.approx((told.forgetting, told.low, told.high))
    assert (row.change, row.change_low, row.change_high) == (0, 0, 0)


@pytest.fixture(scope="module", params=["lora", "dora"])
def adapter(request: pytest.FixtureRequest, base: Path) -> Path:
    """A random adapter on the planted base."""
    folder = base.parent / request.param
    config = peft.LoraConfig(
        r=3, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM", use_dora=request.param == "dora"
    )
    model = peft.get_peft_model(load_tuned(base).model, config)
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.4 * torch.randn_like(parameter)
    model.peft_config["default"].base_model_name_or_path = str(base)
    model.save_pretrained(folder)
    return folder


def test_an_adapter_is_edited_where_it_computes(adapter: Path, base: Path, prose: HeldOut, tmp_path: Path) -> None:
    record = intervene(
        adapter, heldout=[prose], select="all", k=4, epsilon=0.6, lambdas=(0.3,), controls=("shrink",), resamples=50
    )
    scored = {(row.arm, row.factor): row.tuned for row in record.rows}
    if adapter.name == "dora":  # no adapter can be written; what is left is that the edit changes something
        assert scored["intruders", 0.3] != pytest.approx(scored["intruders", 1.0], abs=1e-3)
        return
    for arm in ("intruders", "shrink"):
        out = tmp_path / arm
        mitigate(adapter, out=out, lam=0.3, select="all", k=4, epsilon=0.6, shrink=arm == "shrink")
        loaded = load_tuned(out)
        assert scored[arm, 0.3] == pytest.approx(measure(loaded.model, loaded.tokenizer, prose).loss, abs=1e-5)


def test_finished_points_are_not_measured_again(base: Path, prose: HeldOut, tmp_path: Path) -> None:
    tuned = planted.save_tuned(base, base.parent / "again", "intruder")
    question = {**QUESTION, "base": str(base), "controls": ("shrink",)}
    first = experiment(tuned, [prose], folder=tmp_path / "out", **question)
    seen: list[str] = []

    def interrupt(done: int, total: int, name: str) -> None:
        seen.append(f"{done}/{total} {name}")
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.run(interrupt)
    assert seen == ["1/8 base", "2/8 tuned", "3/8 intruders 0"]
    partial = first.record()
    first.write(partial)
    assert [(row.arm, row.factor) for row in partial.rows] == [("intruders", 0.0), ("intruders", 1.0), ("shrink", 1.0)]
    assert partial.contrasts == () and len(partial.missing) == 5

    second = experiment(tuned, [prose], folder=tmp_path / "out", **question)
    seen.clear()
    second.run(lambda done, total, name: seen.append(name))
    assert seen == ["shrink 0", "intruders 0.5", "shrink 0.5", "intruders 1.5", "shrink 1.5"]
    whole = second.record()
    second.write(whole)
    assert whole.missing == () and whole.rows == intervene(tuned, heldout=[prose], **question).rows
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        ".spectra.json", "points", "interventions.json", "interventions.parquet", "interventions.csv",
        "intervention_contrasts.parquet", "intervention_contrasts.csv",
    }  # fmt: skip


def test_nothing_measured_is_said(base: Path, prose: HeldOut) -> None:
    tuned = planted.save_tuned(base, base.parent / "unmeasured", "intruder")
    with pytest.raises(RunError, match="Neither base nor tuned model is measured yet"):
        experiment(tuned, [prose], **QUESTION, base=str(base)).record()


def test_a_checkpoint_without_intruders_is_refused_with_how_near_it_comes(base: Path, prose: HeldOut) -> None:
    with pytest.raises(SpectrumError, match=r"no intruder dimension in 14 .*nothing to scale.*1\.000.*raise --epsilon"):
        intervene(base, heldout=[prose], base=str(base), **QUESTION)


def test_settings_without_meaning_are_refused(base: Path, prose: HeldOut) -> None:
    with pytest.raises(SpectrumError, match=r"lambda is 3\.0, outside \[0, 2\]"):
        intervene(base, heldout=[prose], base=str(base), lambdas=(3.0,))
    with pytest.raises(DataError, match=r"The held-out tasks are \[\]\. Give at least one"):
        intervene(base, heldout=[], base=str(base))
    with pytest.raises(SpectrumError, match=r"A full checkpoint does not name its base: .* Give it with --base"):
        intervene(base, heldout=[prose])


def test_the_records_are_the_documented_tables(base: Path, prose: HeldOut) -> None:
    for record, name in ((InterventionRow, "interventions"), (Contrast, "intervention_contrasts")):
        assert {field.name for field in fields(record)} == {column.name for column in BESIDE_RUNS[name]}
    run = planted_run(base, prose, "intruder")
    assert list(run.to_dataframe()["arm"].unique()) == ["intruders", "shrink", "random"]
    assert len(run.to_dataframe("contrasts")) == 2
    assert run.to_dict()["rows"][0] == asdict(run.rows[0])
    assert run.to_dict()["verdicts"] == dict(run.verdicts)
    assert "<table><caption>" in run._repr_html_() and "attributed to the intruders" in run._repr_html_()


POSITIVE, NEGATIVE, OPEN = Estimate(1.0, 0.5, 1.5), Estimate(-1.0, -1.5, -0.5), Estimate(0.1, -0.5, 0.7)


@pytest.mark.parametrize(
    ("forgotten", "area", "equal_score", "verdict"),
    [
        (POSITIVE, POSITIVE, POSITIVE, "intruders"),
        (POSITIVE, POSITIVE, None, "intruders"),
        (POSITIVE, POSITIVE, OPEN, "trade-off"),
        (POSITIVE, POSITIVE, NEGATIVE, "trade-off"),
        (POSITIVE, OPEN, POSITIVE, "trade-off"),
        (POSITIVE, OPEN, OPEN, "not distinguishable"),
        (POSITIVE, OPEN, None, "not distinguishable"),
        (POSITIVE, OPEN, NEGATIVE, "control"),
        (POSITIVE, NEGATIVE, None, "control"),
        (OPEN, POSITIVE, POSITIVE, "nothing forgotten"),
        (NEGATIVE, POSITIVE, None, "nothing forgotten"),
    ],
)
def test_a_verdict_needs_both_comparisons(
    forgotten: Estimate, area: Estimate, equal_score: Estimate | None, verdict: str
) -> None:
    evidence = Evidence("t", "shrink", "nats", 300, forgotten, area, 0.0, None, equal_score, 0.95)
    assert evidence.verdict == verdict
    assert evidence.sentence.startswith("t: ") and evidence.sentence.endswith(".")
    assert ("no task was given" in evidence.sentence) == (equal_score is None and forgotten is POSITIVE)
