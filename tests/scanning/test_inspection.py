"""What an adapter says by itself: rank, scaling, norms and spectrum of every update, without any base."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from spectra.assets import fetched
from spectra.cli.main import main
from spectra.scanning.inspection import inspection
from spectra.weights import adapter_pair, opening

MODULE = "model.layers.0.self_attn.q_proj"


def adapter(folder: Path, **config: object) -> tuple[np.ndarray, Path]:
    """A LoRA of rank 2 whose base is nowhere, and its B @ A."""
    generator = torch.Generator().manual_seed(0)
    A, B = torch.randn(2, 5, generator=generator), torch.randn(7, 2, generator=generator)
    name = f"base_model.model.{MODULE}"
    tensors = {f"{name}.lora_A.weight": A, f"{name}.lora_B.weight": B}
    if config.get("use_dora"):
        tensors[f"{name}.lora_magnitude_vector"] = torch.rand(7)
    save_file(tensors, folder / "adapter_model.safetensors")
    told = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "base_model_name_or_path": "org/absent", **config}
    (folder / "adapter_config.json").write_text(json.dumps(told))
    return (B @ A).double().numpy(), folder


@pytest.mark.parametrize(("config", "scaling"), [({}, 3.0), ({"use_rslora": True}, 6 / 2**0.5)])
def test_the_update_of_an_adapter_needs_no_base(config: dict[str, object], scaling: float, tmp_path: Path) -> None:
    product, folder = adapter(tmp_path, **config)
    found = inspection(folder).to_dict()
    assert (found["kind"], found["method"], found["format"]) == ("adapter", "lora", "adapter of peft")
    assert found["base"] == "org/absent" and found["trained_parameters"] == 24
    (entry,) = found["updates"]
    S = np.linalg.svd(scaling * product, compute_uv=False)[:2]
    assert (entry["module"], entry["shape"], entry["rank"], entry["alpha"]) == (MODULE, [7, 5], 2, 6.0)
    assert entry["scaling"] == pytest.approx(scaling)
    np.testing.assert_allclose(entry["singular_values"], S, rtol=1e-6)
    assert entry["frobenius"] == pytest.approx(np.linalg.norm(scaling * product), rel=1e-6)
    assert entry["spectral"] == pytest.approx(S[0], rel=1e-6)
    p = S / S.sum()
    assert entry["effective_rank"] == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-6)
    assert "Intruder dimensions" in found["needs_base"][0]["reason"]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"use_dora": True}, "magnitudes of DoRA are relative to W0"),
        ({"init_lora_weights": "pissa"}, "initialised with pissa, which changed the base"),
        ({"peft_type": "IA3"}, "what peft makes of W0"),
    ],
)
def test_what_needs_a_base_is_said(config: dict[str, object], reason: str, tmp_path: Path) -> None:
    _, folder = adapter(tmp_path, **config)
    assert any(reason in needed["reason"] for needed in inspection(folder).to_dict()["needs_base"])


def test_a_single_file_is_called_an_adapter(tmp_path: Path) -> None:
    a, b = torch.randn(3, 2), torch.randn(2, 4)
    name = "lora_unet_mid_block_attentions_0_proj_in"
    parts = {"hada_w1_a": a, "hada_w1_b": b, "hada_w2_a": a + 1, "hada_w2_b": b - 1, "alpha": torch.tensor(1.0)}
    save_file({f"{name}.{part}": W for part, W in parts.items()}, tmp_path / "style.safetensors")
    found = inspection(tmp_path / "style.safetensors").to_dict()
    assert (found["kind"], found["method"]) == ("adapter", "loha")
    S = torch.linalg.svdvals(0.5 * (a @ b) * ((a + 1) @ (b - 1)))
    torch.testing.assert_close(torch.tensor(found["updates"][0]["singular_values"]), S)
    shown = CliRunner().invoke(main, ["inspect", str(tmp_path / "style.safetensors")])
    assert shown.exit_code == 0 and "(single-file LoRA)" in shown.stdout and "proj_in" in shown.stdout


def test_with_its_base_at_hand_both_are_listed(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    save_file({f"{MODULE}.weight": torch.randn(7, 5)}, base / "model.safetensors")
    _, folder = adapter(tmp_path, base_model_name_or_path=str(base))
    found = inspection(folder).to_dict()
    assert len(found["matrices"]) == len(found["updates"]) == 1 and found["needs_base"] == []


@pytest.mark.assets
def test_a_real_adapter_is_read_without_its_base() -> None:
    folder = fetched("t5-bias-lora")
    if folder is None:
        pytest.skip("asset t5-bias-lora is not in the cache")
    found = inspection(folder).to_dict()
    assert len(found["updates"]) == 144 and {entry["scaling"] for entry in found["updates"]} == {2.0}
    stored = load_file(folder / "adapter_model.safetensors")
    entry = found["updates"][0]
    A, B = (stored[f"base_model.model.{entry['module']}.lora_{side}.weight"].double() for side in "AB")
    assert entry["frobenius"] == pytest.approx(float((2 * B @ A).norm()))


def test_a_checkpoint_without_a_base_is_read_once_and_told_as_if_compared_with_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"model.layers.{i}.{part}.weight" for i in range(3) for part in ("self_attn.q_proj", "mlp.experts.0.w1")]
    shapes = dict.fromkeys(names, (4, 2)) | {"model.embed_tokens.weight": (9, 2), "model.norm.weight": (2,)}
    folder, copy = tmp_path / "one", tmp_path / "copy"
    folder.mkdir()
    save_file({name: torch.ones(shape) for name, shape in shapes.items()}, folder / "model.safetensors")
    shutil.copytree(folder, copy)
    opened = []
    reader = opening.open_checkpoint
    monkeypatch.setattr(opening, "open_checkpoint", lambda path, **how: (opened.append(path), reader(path, **how))[1])
    monkeypatch.setattr(adapter_pair, "open_checkpoint", opening.open_checkpoint)
    alone = inspection(folder).to_dict()
    assert opened == [folder] and len(alone["matrices"]) == 6
    assert {**inspection(folder, copy).to_dict(), "base": None} == alone
    assert opened == [folder, folder, copy]
