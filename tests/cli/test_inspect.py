"""`spectra inspect` at the terminal: facts, settings per module, reasons, JSON, and what it does not import."""

import json
import subprocess
import sys
from pathlib import Path

import peft
import pytest
import torch
from click.testing import CliRunner
from tiny import save_model
from transformers import AutoModelForCausalLM

from spectra.cli.main import main


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspect")
    base = save_model(folder / "base", "llama")
    config = peft.LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj", "down_proj"], rank_pattern={"down_proj": 2})
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_()
    model.save_pretrained(folder / "adapter")
    return folder / "adapter"


def inspected(*arguments: object) -> dict:
    result = CliRunner().invoke(main, ["inspect", *map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_facts_of_an_adapter_are_those_of_peft(adapter: Path) -> None:
    found = inspected(adapter)
    parameters = 2 * (4 * (16 + 16) + 2 * (16 + 32))
    assert found["kind"] == "adapter" and found["method"] == "lora"
    assert found["trained_parameters"] == parameters
    assert found["bytes"] == 4 * parameters and found["optimiser_bytes"] == 8 * parameters
    settings = {(entry["role"], entry["rank"], entry["alpha"], entry["scaling"]) for entry in found["matrices"]}
    assert settings == {("q_proj", 4, 6.0, 1.5), ("down_proj", 2, 6.0, 3.0)}
    assert sum(entry["parameters"] for entry in found["matrices"]) == parameters
    assert {skipped["reason"] for skipped in found["skipped"]} >= {"not changed by this adapter"}


def test_the_table_fits_80_columns_and_counts_layers_together(adapter: Path) -> None:
    result = CliRunner().invoke(main, ["inspect", str(adapter)])
    assert result.exit_code == 0, result.output
    table = [line for line in result.stdout.splitlines() if str(adapter.parent) not in line]
    assert max(map(len, table)) <= 80
    row, update = [line.split() for line in table if line.startswith("down_proj")]
    assert update[:5] == ["down_proj", "2", "16x32", "2", "3"]
    assert row == ["down_proj", "mlp", "2", "16x32", "2", "6", "3", "192"]
    assert any(line.endswith("and 9 more (not changed by this adapter)") for line in table)


def test_selection_options_reach_the_matrices(adapter: Path) -> None:
    found = inspected(adapter, "--layers", "1", "--roles", "q_proj")
    assert [entry["name"] for entry in found["matrices"]] == ["layers.1.self_attn.q_proj"]


def test_a_full_checkpoint_needs_no_base_to_be_inspected(adapter: Path) -> None:
    found = inspected(adapter.parent / "base")
    assert found["base"] is None and found["kind"] == "full" and len(found["matrices"]) == 14


def test_a_warning_goes_to_stderr_and_into_the_json(adapter: Path, tmp_path: Path) -> None:
    other = save_model(tmp_path / "other", "llama", seed=1)
    result = CliRunner().invoke(main, ["inspect", str(adapter), "--base", other, "--json"])
    assert "whose weights differ" in result.stderr
    assert "whose weights differ" in json.loads(result.stdout)["warnings"][0]


def test_neither_peft_nor_transformers_is_imported_for_plain_lora(adapter: Path) -> None:
    code = (
        "import sys; from click.testing import CliRunner; from spectra.cli.main import main; "
        f"result = CliRunner().invoke(main, ['inspect', {str(adapter)!r}]); assert result.exit_code == 0; "
        "print([name for name in ('peft', 'transformers', 'huggingface_hub') if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
