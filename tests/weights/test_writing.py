"""What is written loads again: adapters in peft, full checkpoints in transformers; and nothing half written stays."""

import json
from pathlib import Path

import peft
import pytest
import torch
from families import FAMILIES
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from tuned import Tuned, quiet, tune

from spectra import Selection
from spectra.errors import CheckpointError, DestinationError
from spectra.weights import Origin, base_fingerprint, open_pair, read_origin, write_adapter, write_full_checkpoint

ORIGIN = Origin("base", (1.0, 2.0), "a test")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    config = peft.LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    return tune(tmp_path_factory.mktemp("written"), "llama", config)


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(torch.arange(12)[None]).logits


def test_a_written_adapter_loads_in_peft_with_the_same_outputs(tuned: Tuned, tmp_path: Path) -> None:
    tensors = load_file(tuned.adapter / "adapter_model.safetensors")
    config = json.loads((tuned.adapter / "adapter_config.json").read_text())
    plain = {name.removeprefix("base_model.model."): tensor for name, tensor in tensors.items()}
    origin = Origin(str(tuned.base), base_fingerprint(tuned.base), "a test", str(tuned.adapter))
    write_adapter(tmp_path / "copy", config, plain, origin)
    with quiet():
        one = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tuned.base), tuned.adapter)
        other = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tuned.base), tmp_path / "copy")
    assert torch.equal(logits(one), logits(other))
    assert read_origin(tmp_path / "copy") == origin
    assert open_pair(tuned.base, tmp_path / "copy").warnings == ()


def test_the_recorded_origin_tells_a_wrong_base(tuned: Tuned, tmp_path: Path) -> None:
    config = json.loads((tuned.adapter / "adapter_config.json").read_text())
    tensors = load_file(tuned.adapter / "adapter_model.safetensors")
    write_adapter(tmp_path / "copy", config, tensors, Origin("org/elsewhere", (1.0,) * 64, "a test"))
    (warning,) = open_pair(tuned.base, tmp_path / "copy").warnings
    assert "trained from 'org/elsewhere', whose weights differ" in warning


@pytest.mark.parametrize("shard_bytes", [10**9, 6000])
def test_a_written_merge_loads_in_transformers_as_pefts_merge(tuned: Tuned, shard_bytes: int, tmp_path: Path) -> None:
    pair = open_pair(tuned.base, tuned.adapter)
    matrices = [(matrix.home, matrix.W_tuned) for matrix in pair.matrices]
    write_full_checkpoint(tmp_path / "out", tuned.base, matrices, ORIGIN, shard_bytes=shard_bytes)
    with quiet():
        mine = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
        theirs = AutoModelForCausalLM.from_pretrained(tuned.merged)
    torch.testing.assert_close(logits(mine), logits(theirs), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(logits(mine), logits(AutoModelForCausalLM.from_pretrained(tuned.base)), atol=1e-2)
    assert len(open_pair(tuned.base, tmp_path / "out").matrices) == 14
    assert read_origin(tmp_path / "out") == ORIGIN


@pytest.mark.parametrize("family", ["gpt2", "gpt_oss", "vit", "mixtral"])
def test_every_layout_is_written_back_in_its_place(family: str, tmp_path: Path) -> None:
    with quiet():
        FAMILIES[family].build().save_pretrained(tmp_path / "base")
    pair = open_pair(tmp_path / "base", tmp_path / "base", Selection(split_fused=True))
    matrices = [(matrix.W0, lambda matrix=matrix: matrix.W0.load() + 1) for matrix in pair.matrices]
    write_full_checkpoint(tmp_path / "out", tmp_path / "base", matrices, ORIGIN)
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("base", "out"))
    touched = {block.tensor.name for matrix in pair.matrices for block in matrix.W0.blocks}
    for name, W in before.items():
        torch.testing.assert_close(after[name], W + 1 if name in touched else W)
    with quiet():
        loaded = type(FAMILIES[family].build()).from_pretrained(tmp_path / "out")
    assert sum(parameter.numel() for parameter in loaded.parameters()) > 0


def test_an_existing_folder_is_replaced_only_by_force(tuned: Tuned, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("")
    for force, told in ((False, "Add --force to replace it"), (True, "is no adapter that spectra wrote")):
        with pytest.raises(DestinationError, match=told):
            write_adapter(tmp_path / "out", {}, {"x": torch.ones(1)}, ORIGIN, force=force)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["precious"]
    (tmp_path / "out" / "precious").unlink()
    for number in (1, 2):
        write_adapter(tmp_path / "out", {"n": number}, {"x": torch.ones(1)}, ORIGIN, force=True)
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text()) == {"n": 2}


def test_a_failure_leaves_nothing_behind(tuned: Tuned, tmp_path: Path) -> None:
    pair = open_pair(tuned.base, tuned.adapter)

    def fails() -> torch.Tensor:
        return torch.full(pair.matrices[0].shape, torch.nan)

    with pytest.raises(CheckpointError, match="holds NaN or infinity"):
        write_full_checkpoint(tmp_path / "out", tuned.base, [(pair.matrices[0].W0, fails)], ORIGIN)
    with pytest.raises(CheckpointError, match="'x' holds NaN or infinity and is not written"):
        write_adapter(tmp_path / "out", {}, {"x": torch.tensor([torch.inf])}, ORIGIN)
    assert list(tmp_path.iterdir()) == []
