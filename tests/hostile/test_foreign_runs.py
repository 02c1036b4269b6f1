"""Run folders that somebody else filled: each command ends in one sentence, and nothing is written."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from spectra.cli.main import main
from spectra.errors import RunError
from spectra.runs import Run
from spectra.sweep.spec.kinds import TrainedTrial
from spectra.sweep.spec.plan import planned
from spectra.sweep.trial.tables import write_tables
from spectra.training.settings import TrainingSettings

SPECIFICATION = {"base": "base", "task": "task.jsonl", "methods": [], "steps": 1}
TRIAL = {"id": "abc", "label": "LoRA", "group": "g", "learning_rate": 0.1, "seed": 0}
SETTINGS = {"specification": {}, "label": "LoRA", "group": "g"}
FILES: dict[str, tuple[str, Any]] = {
    "a specification that is a number": ("trial.json", {"specification": 3}),
    "a label that is a list": ("trial.json", {**SETTINGS, "label": [1]}),
    "seconds that are words": ("timings.json", {"training": "long"}),
    "a reason that is a list": ("failure.json", {"error": [1], "attempts": 1}),
    "attempts that are words": ("failure.json", {"error": "", "attempts": "many"}),
    "training time that is a word": ("metrics.json", {"train_seconds": "long"}),
}
TABLES: dict[str, dict[str, dict[str, list[Any]]]] = {
    "words for numbers": {"trials": {"trial": ["abc"], "label": ["LoRA"], "rank": ["no"], "learning_rate": ["x"]}},
    "numbers for names": {"trials": {"trial": [1], "label": [3.5]}},
    "words for flags": {"trials": {"trial": ["abc"], "chosen": ["maybe"]}},
    "flags for numbers": {"trials": {"trial": ["abc"], "task_score": [True]}},
    "lists": {"trials": {"trial": [["abc"]], "error": [[None]]}},
    "halves of a seed": {"trials": {"trial": ["abc"], "seed": [0.5]}},
    "another table": {
        "trials": {"trial": ["abc"], "label": ["LoRA"], "status": ["done"], "error": [""], "chosen": [True]},
        "forgetting": {"trial": ["abc"], "heldout": [3], "forgetting": ["x"]},
    },
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "run"
    (folder / "trials" / "abc").mkdir(parents=True)
    (folder / "tables").mkdir()
    (folder / "trials" / "abc" / "trial.json").write_text(json.dumps(SETTINGS))
    described = {"specification": SPECIFICATION, "trials": [TRIAL], "inputs": {}}
    (folder / "sweep.json").write_text(json.dumps(described))
    return folder


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == 1, (result.output, result.exception)
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.stderr.count("Error: ") == 1
    return result.stderr


@pytest.mark.parametrize("name", FILES)
def test_a_trial_that_no_sweep_wrote_is_refused(name: str, run: Path) -> None:
    file, content = FILES[name]
    if file == "trial.json":  # read of trials that sweep.json does not describe
        (run / "sweep.json").write_text(json.dumps({"specification": SPECIFICATION, "trials": [], "inputs": {}}))
    (run / "trials" / "abc" / file).write_text(json.dumps(content))
    assert f"{file}'" in refused("status", "run")


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_no_sweep_wrote_is_refused(name: str, run: Path) -> None:
    for table, columns in TABLES[name].items():
        pd.DataFrame(columns).to_parquet(run / "tables" / f"{table}.parquet")
    for command in (["report", "run"], ["report", "run", "-o", "out.html"]):
        assert "is not as `spectra sweep` writes it" in refused(*command)
    refused("advise", "run")
    assert sorted(path.name for path in run.parent.iterdir()) == ["run"]
    assert not (run / "report.html").exists()


@pytest.mark.parametrize("changed", [{"seed": "0"}, {"seed": {"a": [1]}}, {"rank": 8}, {"learning_rate": None}, None])
def test_a_trial_that_is_not_the_one_of_its_folder_is_refused(changed: dict[str, Any] | None, run: Path) -> None:
    kind = TrainedTrial(
        TrainingSettings(base="base", method="lora", rank=2, learning_rate=0.1, seed=0, steps=5, alpha=4.0),
        "task.jsonl",
    )
    trial = run / "trials" / planned(kind).id
    (run / "trials" / "abc").rename(trial)
    (run / "sweep.json").write_text(json.dumps({"specification": SPECIFICATION, "trials": [], "inputs": {}}))
    for specification in ({**kind.to_dict(), **(changed or {})}, *(({},) if changed is None else ())):
        (trial / "trial.json").write_text(json.dumps({"specification": specification, "label": "x", "group": "g"}))
        if specification == kind.to_dict():
            assert write_tables(Run.open(run)).empty
        else:
            with pytest.raises(RunError, match=r"trial\.json' is not as `spectra sweep` writes it"):
                write_tables(Run.open(run))
