"""The oracle: what spectra reads is what transformers and peft load, on ninety families built from a config."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import peft
import pytest
import torch
from click.testing import CliRunner
from many_families import MANY
from safetensors.torch import save_file
from tuned import quiet

from spectra.cli.main import main
from spectra.errors import CheckpointError
from spectra.weights import open_pair, verify_checkpoint
from spectra.weights.matching.layout import Layout

# peft refuses the mixer's layers of a Mamba.
WITHOUT_LORA = {"mamba"}


def moved(model: torch.nn.Module, size: float, *, trainable: bool = False) -> torch.nn.Module:
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1 and (parameter.requires_grad or not trainable):
                parameter.add_(size * torch.randn_like(parameter))
    return model


def checkpoints(folder: Path, family: str) -> tuple[Path, Path, Path, Path]:
    """A base, a full fine-tuning as it is saved and under its names in memory, and a LoRA on all linear layers."""
    base, full, memory, lora = (folder / name for name in ("base", "full", "memory", "lora"))
    with quiet():
        MANY[family]().save_pretrained(base)
        model = moved(MANY[family](), 0.001)
        model.save_pretrained(full)
        memory.mkdir()
        shutil.copy(base / "config.json", memory)
        state = {name: W.clone().contiguous() for name, W in model.state_dict().items()}
        save_file(state, memory / "model.safetensors", metadata={"format": "pt"})
        if family not in WITHOUT_LORA:
            config = peft.LoraConfig(r=2, lora_alpha=6, target_modules="all-linear")
            moved(peft.get_peft_model(MANY[family](), config), 0.1, trainable=True).save_pretrained(lora)
    return base, full, memory, lora


@pytest.mark.parametrize("family", sorted(MANY))
def test_every_matrix_is_what_transformers_and_peft_load(family: str, tmp_path: Path) -> None:
    base, *tuned = checkpoints(tmp_path, family)
    for checkpoint in tuned:
        if checkpoint.exists():
            pair = open_pair(base, checkpoint)
            with quiet():
                found = verify_checkpoint(pair)
            assert found.differences == () and len(found.checked) == len(pair.matrices) > 0
            assert pair.coverage is not None and not pair.coverage.gaps


@pytest.mark.parametrize(("family", "method"), [("gpt2", "_conv1d"), ("gpt_oss", "_experts_transposed")])
def test_a_wrong_layout_is_caught(family: str, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, full, _, _ = checkpoints(tmp_path, family)
    monkeypatch.setattr(Layout, method, lambda *_: False)
    with quiet():
        different = verify_checkpoint(open_pair(base, full)).differences
    assert {each.problem for each in different if each.name} == {"W0 is read the other way round"}
    assert len(different) >= (8 if family == "gpt2" else 12)


def test_another_scaling_is_caught(tmp_path: Path) -> None:
    base, _, _, lora = checkpoints(tmp_path, "llama")
    pair = open_pair(base, lora)
    settings = json.loads((lora / "adapter_config.json").read_text())
    (lora / "adapter_config.json").write_text(json.dumps({**settings, "lora_alpha": 7}))
    with quiet():
        different = verify_checkpoint(pair).differences
    assert len(different) == 14 and {each.problem for each in different} == {"W_tuned differs"}


def test_a_matrix_of_another_layer_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, full, _, _ = checkpoints(tmp_path, "llama")
    first, *_, last = open_pair(base, full).matrices
    pair = open_pair(base, full)
    swapped = replace(pair, matrices=(replace(first, name=last.name),))
    with quiet():
        found = verify_checkpoint(swapped).checked
    assert found[0].problem == "W0 is that of another layer or expert"
    assert {each.problem for each in found[1:]} == {"changed by tuning, and not compared"}


def test_the_command_prints_a_table_and_ends_with_1_on_a_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, full, _, _ = checkpoints(tmp_path, "gpt2")
    arguments = ["inspect", str(full), "--base", str(base), "--verify"]
    right = CliRunner().invoke(main, [*arguments, "--json"])
    assert right.exit_code == 0 and json.loads(right.stdout)["verification"]["differences"] == 0
    monkeypatch.setattr(Layout, "_conv1d", lambda *_: False)
    wrong = CliRunner().invoke(main, arguments)
    assert wrong.exit_code == 1 and "differences" in wrong.stdout and "the other way" in wrong.stdout
    assert CliRunner().invoke(main, [*arguments, "--split-fused"]).exit_code == 2
    assert CliRunner().invoke(main, ["inspect", str(full), "--verify"]).exit_code == 1


def test_a_checkpoint_without_a_base_cannot_be_verified(tmp_path: Path) -> None:
    from spectra.weights.opening import open_to_inspect

    with quiet():
        MANY["llama"]().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="without its base"):
        verify_checkpoint(open_to_inspect(tmp_path))
