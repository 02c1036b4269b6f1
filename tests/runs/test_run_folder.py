import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from spectra.errors import DestinationError, RunError
from spectra.runs import SCHEMAS, Run, tidy


def sweep(**fields: Any) -> dict[str, Any]:
    return {"specification": {"base": "tiny", "seeds": [0], **fields}}


def test_a_folder_is_continued_by_the_same_sweep_only(tmp_path: Path) -> None:
    Run.create(tmp_path / "run", sweep(), same={"base": None})
    Run.create(tmp_path / "run", sweep(seeds=[0, 1]), same={"base": None})
    assert Run.open(tmp_path / "run").specification["seeds"] == [0, 1]
    assert Run(str(tmp_path / "run")) == Run.open(str(tmp_path / "run"))
    with pytest.raises(RunError, match=r"its base is 'tiny', not 'other'\. Choose another --out\."):
        Run.create(tmp_path / "run", sweep(base="other"), same={"base": None})


def test_a_folder_with_other_files_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(DestinationError, match="holds other files"):
        Run.create(tmp_path, sweep(), same={})
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_without_a_sweep_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is no run folder: it has no sweep\.json"):
        Run.open(tmp_path)


def test_a_trial_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    trial = Run.create(tmp_path / "run", sweep(), same={}).trial("abc")
    with trial.claim() as mine, trial.claim() as theirs:
        assert mine
        assert not theirs
        assert trial.state == "running"
    assert trial.state == "waiting"


def test_a_trial_goes_from_waiting_over_failed_to_done(tmp_path: Path) -> None:
    trial = Run.create(tmp_path / "run", sweep(), same={}).trial("abc")
    assert trial.state == "waiting"
    trial.training.mkdir(parents=True)
    assert trial.state == "interrupted"
    assert trial.record_failure("out of memory") == 1
    assert trial.record_failure("out of memory") == 2
    assert trial.state == "failed"
    trial.finish()
    assert trial.state == "done"
    assert trial.failure is None


def test_saved_weights_replace_the_training_checkpoints(tmp_path: Path) -> None:
    trial = Run.create(tmp_path / "run", sweep(), same={}).trial("abc")
    (trial.training / "checkpoint-1").mkdir(parents=True)
    assert trial.weights is None
    with trial.saving_weights("adapter") as folder:
        (folder / "adapter_config.json").write_text("{}")
    assert trial.weights == trial.adapter
    assert not trial.training.exists()
    trial.drop_weights(adapters=False)
    assert trial.weights == trial.adapter
    trial.drop_weights(adapters=True)
    assert trial.weights is None


@pytest.mark.parametrize("name", SCHEMAS)
def test_an_empty_table_keeps_its_columns_and_types_through_its_file(name: str, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", sweep(), same={})
    run.write_table(name, [])
    table = run.table(name)
    assert list(table.columns) == [column.name for column in SCHEMAS[name]]
    full = run.write_table(name, [{"trial": "a"}])
    assert list(full.columns) == list(table.columns)


def test_a_table_that_came_after_the_run_was_written_is_empty(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", sweep(), same={})
    with pytest.raises(RunError, match="has no table 'trajectory' yet"):
        run.table("trajectory")
    run.write_table("trials", [])
    assert list(run.table("trajectory").columns) == [column.name for column in SCHEMAS["trajectory"]]


def test_missing_values_keep_their_type(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", sweep(), same={})
    run.write_table("trials", [{"trial": "a", "rank": 8, "chosen": True, "alpha": 16}, {"trial": "b", "rank": None}])
    table = run.table("trials")
    assert table["rank"].dtype == "Int64"
    assert table["alpha"].dtype == "float64"
    assert table["chosen"].dtype == "boolean"
    assert list(table["error"]) == ["", ""]
    assert table["rank"].isna().tolist() == [False, True]
    csv = pd.read_csv(run.path / "tables" / "trials.csv")
    assert csv["rank"].tolist()[0] == 8


def test_an_undocumented_column_is_refused() -> None:
    with pytest.raises(RunError, match=r"unknown columns loss\. Document them"):
        tidy("trials", [{"trial": "a", "loss": 1.0}])


def test_a_scan_may_grow_columns() -> None:
    assert tidy("vectors", [{"trial": "a", "index": 0, "window_score": 0.5}])["window_score"].tolist() == [0.5]


def test_rows_of_a_trial_carry_its_identity(tmp_path: Path) -> None:
    trial = Run.create(tmp_path / "run", sweep(), same={}).trial("abc")
    assert trial.rows("matrices") is None
    trial.write_rows("matrices", [{"name": "h.0.q", "count": 3}])
    rows = trial.rows("matrices")
    assert rows is not None
    assert rows["trial"].tolist() == ["abc"]
    assert rows["count"].tolist() == [3]


@pytest.mark.parametrize(
    "trials",
    [
        5,
        [{}],
        [{"id": "../../etc", "label": "", "group": ""}],
        [{"id": "a\0b", "label": "", "group": ""}],
        [{"id": "a", "label": {}, "group": "g"}],
        [{"id": "a", "label": "a", "group": "g", "learning_rate": "x"}],
    ],
)
def test_trials_that_no_sweep_describes_are_refused(tmp_path: Path, trials: object) -> None:
    (tmp_path / "sweep.json").write_text(json.dumps({"specification": {}, "trials": trials}))
    with pytest.raises(RunError, match=r"describes no trials as `spectra sweep` does\. Name one of its folders\."):
        _ = Run.open(tmp_path).sweep
