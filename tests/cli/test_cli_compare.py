"""`spectra compare` at the terminal: streams, JSON, exit codes."""

import json
from pathlib import Path

import peft
import pytest
from click.testing import CliRunner, Result
from transformers import AutoModel, AutoModelForCausalLM

from spectra.cli.main import main
from tests.scanning.checkpoints import Checkpoints, save
from tests.tiny import save_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    return save(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECTRA_CACHE", str(tmp_path / "cache"))


def spectra_compare(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["compare", *map(str, arguments)])


def test_json_holds_every_checkpoint_and_goes_to_a_file_as_well(saved: Checkpoints, tmp_path: Path) -> None:
    out = tmp_path / "comparison.json"
    given = (saved.adapters[0], saved.adapters[1], "--roles", "q_proj", "-k", 4, "--draws", 2)
    result = spectra_compare(*given, "--json", "-o", out)
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    assert [scan["checkpoint"] for scan in record["scans"]] == [str(path) for path in saved.adapters[:2]]
    assert json.loads(out.read_text()) == record
    again = spectra_compare(*given, "-o", out)
    assert again.exit_code == 1 and again.stderr.startswith(f"Error: '{out}' exists. Add --force")


def test_one_checkpoint_alone_is_refused_in_one_line(saved: Checkpoints) -> None:
    result = spectra_compare(saved.adapters[0])
    assert result.exit_code == 1 and result.stdout == ""
    assert result.stderr == "Error: 1 checkpoint was given, and comparing takes two. Name another one.\n"


def test_a_selection_without_matrices_is_refused(saved: Checkpoints) -> None:
    result = spectra_compare(saved.adapters[0], saved.adapters[1], "--roles", "nothing")
    assert result.exit_code == 1 and result.stdout == ""
    assert "No matrix has the role nothing. Choose --roles among" in result.stderr


def test_adapters_of_llama_and_of_bert_are_refused_in_one_sentence(tmp_path: Path) -> None:
    adapters = []
    for family, kind, modules in (
        ("llama", AutoModelForCausalLM, ["q_proj", "v_proj"]),
        ("bert", AutoModel, ["query", "value"]),
    ):
        base = save_model(tmp_path / family, family)
        model = peft.get_peft_model(
            kind.from_pretrained(base), peft.LoraConfig(r=2, target_modules=modules, init_lora_weights=False)
        )
        model.peft_config["default"].base_model_name_or_path = base
        adapters.append(tmp_path / f"adapter-{family}")
        model.save_pretrained(adapters[-1])
    out = tmp_path / "out.json"
    for given, told in (
        (adapters, "were tuned from different bases"),
        (adapters[::-1], "were tuned from different bases"),
        ((*adapters, "--base", tmp_path / "llama"), "the base has no such matrix"),
    ):
        result = spectra_compare(*given, "-q", "--json", "-o", out)
        assert result.exit_code == 1 and result.stdout == "" and not out.exists()
        [line] = result.stderr.splitlines()
        assert line.startswith("Error: ") and told in line


def test_a_page_shows_differences_and_overlaps(saved: Checkpoints, tmp_path: Path) -> None:
    page = tmp_path / "compare.html"
    result = spectra_compare(*saved.adapters, "-k", 4, "--draws", 9, "--html", page, "-q")
    assert result.exit_code == 0, result.output
    text = page.read_text(encoding="utf-8")
    assert "Do the updates point the same way?" in text and "What differs from the baseline?" in text
