import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from spectra.cli.main import main
from spectra.cli.sweep_progress import Lines, Pace, duration, shown_progress
from spectra.cli.tables import print_table
from spectra.runs import Run
from spectra.sweep import Event, presets, read_specification, run_sweep
from spectra.sweep.spec.plan import plan
from spectra.sweep.trial.seconds import Clock


def spectra(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.fixture(scope="module")
def written(specification: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("yaml") / "small.yaml"
    path.write_text(yaml.safe_dump(specification))
    return str(path)


def test_a_plan_counts_what_would_be_trained_and_trains_nothing(
    written: str, undisturbed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = spectra("sweep", written, "--plan", "--json")
    assert result.exit_code == 0, result.output
    planned = {row["trial"]: row for row in json.loads(result.stdout)}
    trials = undisturbed.table("trials").set_index("trial")
    assert set(planned) == set(trials.index)
    for trial, row in planned.items():
        assert row["trainable_parameters"] == trials.loc[trial, "trainable_parameters"]
        # AdamW keeps a step counter of 4 bytes beside the two numbers per trained one.
        assert 0 <= int(trials.loc[trial, "optimiser_bytes"]) - row["optimiser_bytes"] < 1000
    assert list(tmp_path.iterdir()) == []


def test_a_plan_is_a_table_that_fits_the_terminal(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = spectra("sweep", written, "rank=1,8,64", "--plan")
    assert "LoRA r=64 α=128" in result.stdout
    assert "5 trials; training takes very roughly" in result.stdout
    assert max(len(line) for line in result.stdout.partition("task, train:")[0].splitlines()) <= 80


def test_a_plan_gives_the_account_of_every_row(written: str) -> None:
    told = spectra("sweep", written, "--plan").stdout
    assert "task, train: 2" in told and "of 300 rows used; 60 set aside" in told
    assert "heldout:nearest-neighbour, test: 20 of 20 rows used; 2 labels" in told


def test_a_plan_says_what_it_cannot_know_without_the_base(written: str) -> None:
    result = spectra("sweep", written, "base=some/model-nobody-has", "--plan")
    assert result.exit_code == 0, result.output
    assert "?" in result.stdout
    assert "the time cannot be estimated" in result.stdout
    assert "The sweep would download:\n  base 'some/model-nobody-has' (size unknown)\n" in result.stdout


def test_a_finished_sweep_prints_its_table_and_its_report(written: str, undisturbed: Run) -> None:
    result = spectra("sweep", written, "--out", str(undisturbed.path))
    assert result.exit_code == 0, result.output
    assert "4 trials, 4 of them done already" in result.stderr
    assert f"Report: {undisturbed.report}" in result.stdout
    assert undisturbed.report.stat().st_size > 10_000
    chosen = undisturbed.table("trials").query("chosen")
    for _, row in chosen.iterrows():
        assert f"{row['task_score']:.4f}" in result.stdout


def test_the_json_of_a_sweep_is_its_tables(written: str, undisturbed: Run) -> None:
    result = spectra("sweep", written, "--out", str(undisturbed.path), "--json", "--quiet")
    assert result.stderr == ""
    values = json.loads(result.stdout)
    assert [row["trial"] for row in values["trials"]] == list(undisturbed.table("trials")["trial"])
    assert values["trials"][0]["validation_score"] == undisturbed.table("trials")["validation_score"][0]
    assert len(values["forgetting"]) == 8


def test_the_time_of_a_sweep_is_told_by_part(undisturbed: Run) -> None:
    table = undisturbed.table("timings")
    one = table[table["trial"] == table["trial"].iloc[0]].set_index("part")["seconds"]
    assert {"load", "training", "validation", "trajectory", "scan", "controls", "measuring"} <= set(one.index)
    assert (one >= 0).all()
    trials = undisturbed.table("trials").set_index("trial")
    for trial, seconds in table[table["part"] == "training"].set_index("trial")["seconds"].items():
        assert seconds == pytest.approx(trials.loc[trial, "train_seconds"])
    assert table[table["part"] == "testing"]["trial"].tolist() == trials.index[trials["chosen"].astype(bool)].tolist()
    assert "Time of 4 trials by part: " in spectra("status", str(undisturbed.path)).stdout


def test_a_part_inside_another_one_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.perf_counter", iter([0.0, 1.0, 3.0, 10.0]).__next__)
    clock = Clock()
    with clock.part("load"), clock.part("scan"):
        pass
    clock.move("scan", "controls", 0.5)
    assert clock.seconds == {"scan": 1.5, "load": 8.0, "controls": 0.5}


def test_status_tells_where_every_trial_stands(undisturbed: Run) -> None:
    result = spectra("status", str(undisturbed.path), "--json")
    values = json.loads(result.stdout)
    assert [row["state"] for row in values["trials"]] == ["done"] * 4
    table = spectra("status", str(undisturbed.path)).stdout
    assert "LoRA r=4 α=8" in table
    assert table.rstrip().endswith("4 done")


def test_status_lists_the_trials_of_all_calls(tmp_path: Path) -> None:
    shared = {"label": "full", "group": "g", "learning_rate": 1e-3}
    for names in ("ab", "bc"):
        trials = [{"id": name, "seed": 0, **shared} for name in names]
        run = Run.create(tmp_path / "run", {"specification": {}, "trials": trials}, same={})
    values = json.loads(spectra("status", str(run.path), "--json").stdout)
    assert [row["id"] for row in values["trials"]] == ["a", "b", "c"]


def test_a_table_in_a_pipe_keeps_all_its_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    header = ("configuration", *(f"number {n}" for n in range(12)))
    row = ("LoRA r=8 α=16 on query, key, value, dense", *("123456789" for n in range(12)))
    print_table(header, [row], numeric=range(1, 13))
    assert len(capsys.readouterr().out.strip().splitlines()) == 3
    monkeypatch.setenv("COLUMNS", "60")
    print_table(header, [row], numeric=range(1, 13))
    lines = capsys.readouterr().out.splitlines()
    assert "".join(line[1:17].strip() for line in lines[3:]).replace(" ", "") == row[0].replace(" ", "")
    assert any(line.count("123456789") == 12 for line in lines)


def test_a_sweep_with_a_failed_trial_ends_with_1_and_the_reason(written: str, tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    axes = ["method=full", "learning_rate=0.9", "steps=20", "max_grad_norm=1e30", "weight_decay=1e6"]
    result = spectra("sweep", written, *axes, "--out", out, "--quiet")
    assert result.exit_code == 1, result.output
    assert "full, seed 0: failed: " in result.stderr


def test_status_tells_why_a_trial_failed(tmp_path: Path) -> None:
    trials = [{"id": "abc", "label": "full", "group": "g", "learning_rate": 1e-3, "seed": 0}]
    run = Run.create(tmp_path / "run", {"specification": {}, "trials": trials}, same={})
    run.trial("abc").record_failure("The worker was ended by SIGKILL.")
    result = spectra("status", str(run.path))
    assert "abc: The worker was ended by SIGKILL." in result.stdout
    assert result.stdout.rstrip().endswith("1 failed")


def test_status_estimates_what_is_left_from_what_is_done(tmp_path: Path) -> None:
    shared = {"label": "full", "group": "g", "learning_rate": 1e-3}
    trials = [{"id": name, "seed": seed, **shared} for seed, name in enumerate(("a", "b", "c", "d"))]
    run = Run.create(tmp_path / "run", {"specification": {}, "trials": trials}, same={})
    run.trial("a").write_metrics({"train_seconds": 60.0})
    run.trial("a").finish()
    run.trial("b").record_failure("It does not fit.")
    last = spectra("status", str(run.path)).stdout.rstrip().splitlines()[-1]
    assert last == "1 done, 1 failed, 2 waiting; about 2 min of training left, one trial at a time"


def test_a_wrong_specification_is_one_line_on_stderr(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text("base: tiny\nmethod: lora\n")
    result = spectra("sweep", str(path))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"Error: '{path}'")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("shard", ["3/2", "0/2", "two"])
def test_a_share_that_cannot_be_is_a_usage_error(shard: str) -> None:
    result = spectra("sweep", "--shard", shard)
    assert result.exit_code == 2
    assert "Write i/n with i from 1 to n" in result.stderr


def test_the_time_left_follows_the_pace_so_far() -> None:
    now = [0.0]
    pace = Pace(4, clock=lambda: now[0])
    assert pace.seconds_left is None
    pace.started("a")
    now[0] = 70.0
    pace.trained("a", 50, 50)
    assert pace.seconds_left == pytest.approx(330.0)
    now[0] = 100.0
    pace.ended("a")
    assert pace.seconds_left == pytest.approx(300.0)
    assert duration(pace.seconds_left) == "about 5 min left"
    assert duration(62.0) == "about 60 s left"


@pytest.mark.parametrize("preset", [name for name in presets() if name.startswith("paper")])
def test_the_presets_of_the_paper_are_planned_without_the_hub(preset: str) -> None:
    result = spectra("sweep", "--preset", preset, "--plan", "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    if preset == "paper-llama2":
        assert [row["rank"] for row in rows] == [None, 16, 64, 256] * 2
        assert all(row["trainable_parameters"] == 0 for row in rows)
        assert all(row["disk_bytes"] is row["seconds"] is None for row in rows)
        assert result.stderr.count("checkpoint 'LoRA-TMLR-2024/") == 8
    else:
        assert {row["rank"] for row in rows} == {None, 1, 2, 4, 8, 16, 64}
        assert all(row["trainable_parameters"] is None for row in rows)


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_plan_tells_two_configurations_that_are_one_training(written: str, tmp_path: Path, form: list[str]) -> None:
    twins = {
        **yaml.safe_load(Path(written).read_text()),
        "methods": [
            {"method": "lora", "rank": 4, "alpha": 8, "learning_rate": 1e-3},
            {"method": "rslora", "rank": 4, "alpha": 4, "learning_rate": 1e-3},
        ],
    }
    path = tmp_path / "twins.yaml"
    path.write_text(yaml.safe_dump(twins))
    result = spectra("sweep", str(path), "--plan", "-o", str(tmp_path / "run"), *form)
    assert result.exit_code == 0 and "they are one training, done twice" in result.stderr


def test_the_paper_holds_alpha_times_learning_rate() -> None:
    trials = plan(read_specification("paper-roberta"))
    products = {t.training.alpha * t.training.learning_rate for t in trials if t.training.alpha is not None}
    assert all(product == pytest.approx(2.4e-3) for product in products)


def test_progress_counts_the_trials_that_a_new_held_out_task_is_still_missing(
    specification: dict[str, Any], undisturbed: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {**specification, "heldout": [*specification["heldout"], {"task": "other.jsonl"}]}
    for given, told in (
        (specification, "4 trials, 4 of them done already;"),
        (more, "4 trials, 4 to be measured on a"),
    ):
        with shown_progress(read_specification(given), undisturbed.path, None, quiet=False):
            pass
        assert told in capsys.readouterr().err


def test_presets_complete_in_the_shell() -> None:
    from click.shell_completion import ShellComplete

    shell = ShellComplete(main, {}, "spectra", "_SPECTRA_COMPLETE")
    found = [item.value for item in shell.get_completions(["sweep", "--preset"], "paper-r")]
    assert found == ["paper-roberta", "paper-roberta-deconfounded"]
    assert "study-tiny" in [item.value for item in shell.get_completions(["study", "--preset"], "study-")]


@pytest.mark.parametrize("executor", ["inline", "local"])
def test_the_progress_of_a_training_tells_its_last_validation(
    executor: Any, specification: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {**specification, "methods": specification["methods"][1:], "evaluate_every": 5, "heldout": []}
    events: list[Event] = []
    run = run_sweep(asked, tmp_path / "run", executor=executor, axes=["rank=1"], on_event=events.append)
    told = {event.step: event.validation for event in events if event.what == "step"}
    history = run.table("history").set_index("step")["validation_score"]
    assert told[5] is None and told[6] == told[10] == ("accuracy", history[5]) and told[11] == ("accuracy", history[10])
    Lines(Pace(1))(next(event for event in events if event.step == 11))
    assert f"training, step 11 of 12, validation accuracy {history[10]:.4g} (" in capsys.readouterr().err
    loss = replace(next(event for event in events if event.step == 11), validation=("negative loss", -2.5))
    Lines(Pace(1))(loss)
    assert "step 11 of 12, validation loss 2.5 (" in capsys.readouterr().err
