"""`spectra forget` and `spectra assets` at the terminal: streams, JSON, resume, exit codes."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from peft import LoraConfig, get_peft_model
from tiny import save_model, save_prose
from transformers import AutoModelForCausalLM

from spectra.cli.main import main


@pytest.fixture
def adapter(tmp_path: Path) -> str:
    base = save_model(tmp_path / "base", "llama")
    adapted = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    adapted.save_pretrained(tmp_path / "adapter")
    return str(tmp_path / "adapter")


def test_forget_prints_a_verdict_per_task_and_progress_apart(adapter: str, tmp_path: Path) -> None:
    prose = save_prose(tmp_path / "prose.jsonl")
    result = CliRunner().invoke(main, ["forget", adapter, "--heldout", prose, "--limit", "10"])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{adapter} against ")
    assert "prose:lm-loss: " in result.stdout and "10 examples" in result.stdout
    assert "measuring prose:lm-loss" in result.stderr and "measuring" not in result.stdout
    quiet = CliRunner().invoke(main, ["forget", adapter, "--heldout", prose, "--limit", "10", "-q"])
    assert quiet.stdout == result.stdout and "measuring" not in quiet.stderr


def test_forget_writes_nothing_but_json_and_resumes(adapter: str, tmp_path: Path) -> None:
    prose = save_prose(tmp_path / "prose.jsonl")
    arguments = ["forget", adapter, "--heldout", prose, "--json", "-o", str(tmp_path / "out")]
    first = CliRunner().invoke(main, arguments)
    report = json.loads(first.stdout)
    (entry,) = report["checkpoints"]
    (held_out,) = entry["heldout"]
    assert entry["checkpoint"] == adapter and held_out["task"] == "prose:lm-loss"
    assert held_out["forgetting"] == pytest.approx(held_out["tuned"] - held_out["base"])
    assert held_out["low"] <= held_out["forgetting"] <= held_out["high"]
    assert json.loads((tmp_path / "out" / "forgetting.json").read_text()) == report
    again = CliRunner().invoke(main, arguments)
    assert again.stdout == first.stdout and "measuring" not in again.stderr


def test_forgetting_beyond_a_limit_gives_exit_code_3(adapter: str, tmp_path: Path) -> None:
    prose = save_prose(tmp_path / "prose.jsonl")
    arguments = ["forget", adapter, "--heldout", prose, "--limit", "10", "-q", "-o", str(tmp_path / "out"), "--json"]
    [row] = json.loads(CliRunner().invoke(main, arguments).stdout)["checkpoints"][0]["heldout"]
    for margin, code in ((-1e-6, 3), (1e-6, 0)):
        result = CliRunner().invoke(main, [*arguments, "--fail-if", f"forgetting > {row['forgetting'] + margin!r}"])
        assert result.exit_code == code, result.output
        assert json.loads(result.stdout)["checkpoints"][0]["heldout"] == [row]
        assert ("Failed: forgetting >" in result.stderr) == (code == 3)


def test_forget_answers_a_wrong_measure_with_one_line(adapter: str, tmp_path: Path) -> None:
    prose = save_prose(tmp_path / "prose.jsonl")
    result = CliRunner().invoke(main, ["forget", adapter, "--heldout", f"{prose}:linear-probe", "--max-length", "16"])
    assert result.exit_code == 1 and result.stdout == ""
    assert result.stderr.splitlines()[-1].startswith("Error: Task 'prose' is of kind causal-lm")


def test_assets_list_gives_every_asset_as_json_and_as_a_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPECTRA_CACHE", str(tmp_path))
    rows = json.loads(CliRunner().invoke(main, ["assets", "list", "--json"]).stdout)
    assert {"bbc-news", "all-MiniLM-L6-v2"} <= {row["name"] for row in rows}
    assert {row["name"] for row in rows if row["folder"] is not None} <= {
        "demo-lm",
        "wordnet-sample",
    }
    table = CliRunner().invoke(main, ["assets", "list"]).stdout
    assert len(table.splitlines()) == len(rows) and max(map(len, table.splitlines())) <= 144


def test_assets_fetch_prints_the_folder_and_progress_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPECTRA_CACHE", str(tmp_path))
    result = CliRunner().invoke(main, ["assets", "fetch", "python-code"])
    assert result.exit_code == 0
    assert (Path(result.stdout.strip()) / "texts.jsonl").is_file()
    assert result.stderr.startswith("python-code: reading the standard library")


def test_an_unknown_asset_is_one_line_on_stderr() -> None:
    result = CliRunner().invoke(main, ["assets", "fetch", "bbc"])
    assert result.exit_code == 1 and result.stderr.startswith("Error: There is no asset 'bbc'")
