"""A whole study on a tiny random model: what is fixed first, what is resumed, what is recomputed."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from spectra.errors import RunError, SpecificationError
from spectra.study import Study, read_study, run_study, study_presets
from spectra.study.registration import register
from spectra.study.specification import StudySpecification

TABLES = ("study_trials", "matches", "comparisons", "paper_signs")


def table(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(folder / "study" / "tables" / f"{name}.parquet")


def test_a_study_asks_first_answers_every_question_and_resumes_to_the_same_tables(
    study: Study, specification: dict[str, Any], tmp_path: Path
) -> None:
    """One test for the whole pipeline, because the study behind it takes seconds."""
    folder = study.run.path
    assert list(study.verdicts) == ["a", "b", "c", "d", "e"]
    assert study.missing == ()
    record = json.loads((folder / "study" / "verdicts.json").read_text())
    registered = json.loads((folder / "study" / "study.json").read_text())
    assert record["sha256"] == registered["sha256"] and record["complete"]
    assert len(record["answers"]) == 5 and all("where" in sentence for sentence in record["counts"])

    page = study.report.read_text(encoding="utf-8")
    assert registered["sha256"] in page and "The paper's findings, one by one".replace("'", "&#39;") in page
    assert all(answer["text"] in page for answer in record["answers"])

    again = tmp_path / "again"
    shutil.copytree(folder, again)
    treated = [one for one in again.glob("trials/*/interventions") if (one / "points").is_dir()]
    points = [json.loads(path.read_text()) for one in treated for path in (one / "points").iterdir()]
    assert {len(point["own"]["values"]) for point in points if point["own"]} == {7}
    for one in treated[:1]:  # interrupted in an intervention: a point is lost, and nothing says that it ended
        (one / "outcome.json").unlink()
        next((one / "points").iterdir()).unlink()
    shutil.rmtree(again / "study" / "tables")
    resumed = run_study(specification, again, executor="inline")
    assert resumed.verdicts == study.verdicts
    for name in TABLES:
        pd.testing.assert_frame_equal(table(again, name), table(folder, name))
    with pytest.raises(RunError, match=r"its specification\.study\.margin is 0\.02, not 0\.5"):
        run_study({**specification, "study": {**specification["study"], "margin": 0.5}}, folder)


def test_the_questions_are_written_first_and_no_other_study_may_follow(
    specification: dict[str, Any], tmp_path: Path
) -> None:
    asked = read_study(specification)
    digest = register(tmp_path / "run", asked)
    assert digest == register(tmp_path / "run", read_study({**specification, "title": "Another title"}))
    assert digest != register(tmp_path / "other", read_study(specification, ["seed=0..4"]))
    older = json.loads((tmp_path / "run" / "study" / "study.json").read_text())
    del older["resolved"]["group_by_length"]  # written by a version that did not know these fields
    del older["resolved"]["methods"][0]["launch"]
    (tmp_path / "run" / "study" / "study.json").write_text(json.dumps({**older, "sha256": "of that version"}))
    assert register(tmp_path / "run", asked) == "of that version"
    with pytest.raises(RunError, match="Choose another --out"):
        register(tmp_path / "run", read_study(specification, ["seed=0..4"]))
    assert StudySpecification.model_validate(
        json.loads((tmp_path / "run/study/study.json").read_text())["specification"]
    )


def test_a_grid_may_be_widened_until_there_is_advice_and_the_record_says_so(
    specification: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    register(folder, read_study(specification))
    methods = [dict(one) for one in specification["methods"]]
    lora = next(one for one in methods if one["method"] == "lora")
    rates = lora["learning_rate"]
    widened = {**specification, "methods": methods}
    lora["learning_rate"] = [*(rates if isinstance(rates, list) else [rates]), 0.77]
    fixed = register(folder, read_study(widened))
    there = json.loads((folder / "study" / "study.json").read_text())
    assert there["sha256"] == fixed and there["specification"]["methods"] == read_study(widened).given()["methods"]
    (step,) = there["widened"]
    assert step["trials_finished"] == 0 and all(added == [0.77] for added in step["added"].values())
    assert fixed == register(folder, read_study(widened))
    with pytest.raises(RunError, match="another study"):  # a rate is taken away
        register(folder, read_study(specification))
    for method, rank in (("lora", 3), ("rslora", 2)):
        other = {"method": method, "rank": rank, "learning_rate": 0.1}
        with pytest.raises(RunError, match="another study"):
            register(folder, read_study({**widened, "methods": [*methods, other]}))
    with pytest.raises(RunError, match="another study"):
        register(folder, read_study({**widened, "steps": 99}))
    older = {**there, "rules": {**there["rules"], "exclusion": "another rule"}}
    lora["learning_rate"] = [*lora["learning_rate"], 0.66]
    (folder / "study" / "study.json").write_text(json.dumps(older))
    with pytest.raises(RunError, match=r"its rules\.exclusion is 'another rule'"):  # more than a rate has changed
        register(folder, read_study(widened))
    (folder / "study" / "study.json").write_text(json.dumps(there))
    (folder / "study" / "advice.json").write_text("{}")
    lora["learning_rate"] = [*lora["learning_rate"], 0.88]
    with pytest.raises(RunError, match="chosen from fewer learning rates"):
        register(folder, read_study(widened))


def test_a_folder_whose_trials_ran_before_they_were_asked_is_refused(
    specification: dict[str, Any], tmp_path: Path
) -> None:
    trial = tmp_path / "trials" / "one"
    trial.mkdir(parents=True)
    for path in (tmp_path / "sweep.json", trial / "trial.json", trial / "metrics.json"):
        path.write_text('{"validation_score": 1}')
    with pytest.raises(RunError, match="ran before any question was asked"):
        register(tmp_path, read_study(specification))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heldout": []}, "heldout is empty; add a held-out task"),
        ({"keep": "none"}, "interventions need the trained weights"),
        ({"controls": False}, "a count says nothing without its null control"),
        ({"study": {"questions": "a,g"}}, "study.questions.1: input should be 'a', 'b', 'c', 'd', 'e' or 'f', not 'g'"),
        ({"study": {"questions": "a,a"}}, "a question is asked twice"),
        ({"study": {"interventions": {"controls": "random"}}}, "question d holds removal against the control shrink"),
        ({"study": {"interventions": {"controls": "shrnk"}}}, "control 'shrnk' is unknown"),
        ({"study": {"interventions": {"lambdas": [1]}}}, "add a lambda below 1"),
        ({"study": {"levle": 0.9}}, "'study.levle' is no field. Did you mean 'level'"),
        (
            {"study": {"interventions": {"lambda": 0.9}}},
            "'study.interventions.lambda' is no field. Did you mean 'lambdas'",
        ),
    ],
)
def test_a_study_that_cannot_be_answered_is_refused_in_a_sentence(
    change: dict[str, Any], message: str, specification: dict[str, Any]
) -> None:
    with pytest.raises(SpecificationError) as refused:
        read_study({**specification, **change})
    assert message in str(refused.value)


def test_every_preset_is_a_study() -> None:
    assert study_presets()
    for name in study_presets():
        assert read_study(name).study.questions


def test_a_study_is_a_table_of_its_questions_in_a_notebook(study: Study) -> None:
    assert dict(study.to_dataframe()[["question", "verdict"]].values.tolist()) == study.verdicts
    assert study._repr_html_().startswith("<table>")
