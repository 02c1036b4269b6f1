"""Adapters in other formats: the way there and back, bit by bit, and what the readers of this package make of them."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import spectra
from spectra.errors import AdapterError
from spectra.surgery import convert
from tests import tiny
from tests.interventions.adapters import Case, llama, save

ATTENTION = ["q_proj", "v_proj", "down_proj"]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return save(tmp_path_factory.mktemp("case"), llama, target_modules=ATTENTION, r=4, lora_alpha=6)


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return save(
        tmp_path_factory.mktemp("uneven"), llama, target_modules=ATTENTION, r=4, lora_alpha=6, use_rslora=True,
        rank_pattern={"down_proj": 2}, alpha_pattern={"q_proj": 3},
    )  # fmt: skip


def updates(base: Path, adapter: Path) -> dict[str, torch.Tensor]:
    """delta_W of every matrix, as this package reads it, in float64."""
    pair = spectra.open_pair(base, adapter)
    return {str(matrix.name): matrix.delta_W(torch.float64) for matrix in pair.matrices}


@pytest.mark.parametrize("to", ["peft", "kohya", "mlx"])
@pytest.mark.parametrize("name", ["case", "uneven"])
def test_the_update_is_the_same_in_every_format(
    name: str, to: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    case: Case = request.getfixturevalue(name)
    result = convert(case.adapter, to=to, out=tmp_path / "out", component="lora_te" if to == "kohya" else None)
    assert len(result.modules) == 6
    before, found = updates(case.base, case.adapter), updates(case.base, tmp_path / "out")
    assert before.keys() == found.keys()
    exact = all(one.is_exact for one in result.modules)
    assert exact or (name, to) == ("uneven", "mlx")
    for matrix in before:
        torch.testing.assert_close(
            found[matrix], before[matrix], rtol=1e-12 if exact else 1e-6, atol=1e-12 if exact else 1e-6
        )


@pytest.mark.parametrize("to", ["kohya", "mlx"])
def test_the_round_trip_gives_every_bit_back(case: Case, to: str, tmp_path: Path) -> None:
    convert(case.adapter, to=to, out=tmp_path / "there", component="lora_te" if to == "kohya" else None)
    convert(tmp_path / "there", to="peft", out=tmp_path / "back", base=case.base)
    before, back = (load_file(folder / "adapter_model.safetensors") for folder in (case.adapter, tmp_path / "back"))
    assert before.keys() == back.keys()
    assert all(torch.equal(before[name], back[name]) for name in before)
    torch.testing.assert_close(case.logits(tmp_path / "back"), case.logits(case.adapter), atol=0, rtol=0)


def test_the_layout_of_mlx_is_turned_and_its_configuration_says_rank_and_scale(case: Case, tmp_path: Path) -> None:
    convert(case.adapter, to="mlx", out=tmp_path / "out")
    tensors = load_file(tmp_path / "out" / "adapters.safetensors")
    stored = load_file(case.adapter / "adapter_model.safetensors")
    module = "model.layers.0.self_attn.q_proj"
    assert torch.equal(tensors[f"{module}.lora_a"], stored[f"base_model.model.{module}.lora_A.weight"].T)
    told = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert told["lora_parameters"] == {
        "rank": 4, "scale": 1.5, "dropout": 0.0, "keys": ["mlp.down_proj", "self_attn.q_proj", "self_attn.v_proj"],
    }  # fmt: skip


def test_the_names_of_kohya_have_underscores_and_its_alpha_is_per_module(uneven: Case, tmp_path: Path) -> None:
    convert(uneven.adapter, to="kohya", out=tmp_path / "out", component="te")
    tensors = load_file(tmp_path / "out" / "pytorch_lora_weights.safetensors")
    assert float(tensors["lora_te_model_layers_0_self_attn_q_proj.alpha"]) == pytest.approx(3 / 4**0.5 * 4)
    assert tensors["lora_te_model_layers_1_mlp_down_proj.lora_down.weight"].shape == (2, 36)


def test_alphas_that_diffusers_passes_over_are_said(case: Case, uneven: Case, tmp_path: Path) -> None:
    told = convert(uneven.adapter, to="kohya", out=tmp_path / "a", component="unet").warnings
    assert len(told) == 1 and "have 3 different alphas. kohya-ss reads them; diffusers (0.36) passes over" in told[0]
    assert convert(uneven.adapter, to="kohya", out=tmp_path / "b", component="te").warnings == ()
    assert convert(case.adapter, to="kohya", out=tmp_path / "c", component="unet").warnings == ()


@pytest.mark.parametrize("name", ["case", "uneven"])
def test_mlx_lm_opens_the_folder_and_computes_what_peft_does(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    mlx, mlx_lm = pytest.importorskip("mlx.core"), pytest.importorskip("mlx_lm")
    case: Case = request.getfixturevalue(name)
    convert(case.adapter, to="mlx", out=tmp_path / "out")
    shutil.copytree(case.base, tmp_path / "base")
    tiny.tokenizer().save_pretrained(tmp_path / "base")
    mlx.set_default_device(mlx.cpu)
    found, bare = (
        torch.tensor(mlx_lm.load(str(tmp_path / "base"), adapter_path=path)[0](mlx.arange(3, 15)[None]).tolist())
        for path in (str(tmp_path / "out"), None)
    )
    torch.testing.assert_close(found, case.logits(case.adapter), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(found, bare, atol=1e-2)


def test_names_without_dots_need_the_base_and_a_prefix_must_be_known(case: Case, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="Name it with component"):
        convert(case.adapter, to="kohya", out=tmp_path / "out")
    convert(case.adapter, to="kohya", out=tmp_path / "out", component="te")
    with pytest.raises(AdapterError, match="only the base tells where the dots were"):
        convert(tmp_path / "out", to="peft", out=tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_file_of_two_parts_asks_which_is_meant(tmp_path: Path) -> None:
    A, B = torch.randn(2, 6), torch.randn(6, 2)
    tensors = {
        f"{name}.{part}.weight": data.clone()
        for name in ("lora_unet_mid_block_x", "lora_te_text_model_x")
        for part, data in (("lora_down", A), ("lora_up", B))
    }
    save_file(tensors, tmp_path / "lora.safetensors")
    with pytest.raises(AdapterError, match="changes 2 parts of a pipeline"):
        convert(tmp_path / "lora.safetensors", to="kohya", out=tmp_path / "out")
    result = convert(tmp_path / "lora.safetensors", to="kohya", out=tmp_path / "out", component="unet")
    assert [one.written for one in result.modules] == ["lora_unet_mid_block_x"]
    assert [one.name for one in result.left_behind] == ["text_model_x"]


def test_dora_is_refused_with_a_remedy(tmp_path: Path) -> None:
    case = save(tmp_path, llama, target_modules=ATTENTION, use_dora=True)
    with pytest.raises(AdapterError, match="Extract a plain LoRA from it"):
        convert(case.adapter, to="mlx", out=tmp_path / "out")


def test_what_mlx_has_no_place_for_is_said(tmp_path: Path) -> None:
    case = save(tmp_path, llama, target_modules=["q_proj", "lm_head"])
    with pytest.raises(AdapterError, match="gives factors to the layers alone"):
        convert(case.adapter, to="mlx", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
