"""Resized adapters against peft's merge and the truncated SVD of the merged update."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaForCausalLM, PreTrainedModel

from spectra import intruders
from spectra.errors import AdapterError, DestinationError, SpectrumError
from spectra.records.selection import Selection
from spectra.surgery import resize
from tests.interventions.adapters import Case, gpt2, llama, save, vit

ATTENTION = ["q_proj", "v_proj", "down_proj"]


def tied() -> PreTrainedModel:
    torch.manual_seed(1)
    config = llama().config
    config.tie_word_embeddings = True
    torch.manual_seed(1)
    return LlamaForCausalLM(config).eval()


CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "linear": (llama, {"target_modules": ATTENTION, "r": 6}),
    "rslora with patterns": (
        llama,
        {
            "target_modules": ATTENTION,
            "r": 6,
            "use_rslora": True,
            "rank_pattern": {"down_proj": 4},
            "alpha_pattern": {"q_proj": 3},
        },
    ),
    "conv1d": (gpt2, {"target_modules": ["c_attn", "c_proj"], "r": 6, "fan_in_fan_out": True}),
    "embedding": (llama, {"target_modules": ["embed_tokens", "q_proj"], "r": 6}),
    "patterns by expression": (
        llama,
        {
            "target_modules": r".*\.(q_proj|v_proj)",
            "r": 6,
            "rank_pattern": {r"layers\.1\..*q_proj": 4},
            "alpha_pattern": {"v_proj": -9},
        },
    ),
    "tied embedding": (tied, {"target_modules": ["embed_tokens", "q_proj"], "r": 6}),
    "tied head": (tied, {"target_modules": ["lm_head", "q_proj"], "r": 6}),
    "biases beside the factors": (llama, {"target_modules": ATTENTION, "r": 6, "lora_bias": True}),
    "all biases": (llama, {"target_modules": ATTENTION, "r": 6, "bias": "all"}),
    "convolution": (vit, {"target_modules": ["q_proj", "projection"], "r": 6}),
    "head saved whole": (llama, {"target_modules": ATTENTION, "r": 6, "modules_to_save": ["lm_head"]}),
}


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return save(tmp_path_factory.mktemp("linear"), llama, target_modules=ATTENTION, r=6)


@pytest.mark.parametrize("name", CASES)
def test_pefts_merge_is_the_truncated_svd_of_the_merged_update(name: str, tmp_path: Path) -> None:
    build, settings = CASES[name]
    case = save(tmp_path, build, **settings)
    result = resize(case.adapter, out=tmp_path / "out", rank=2, k=3)
    before, found, base = case.merged(case.adapter), case.merged(tmp_path / "out"), case.build().state_dict()
    cut = 0
    for weight, W0 in base.items():
        delta = (before[weight] - W0).double().numpy()
        saved_whole = name == "head saved whole" and weight.startswith("lm_head")
        if delta.ndim >= 2 and delta.any() and not saved_whole:
            U, S, Vh = np.linalg.svd(delta.reshape(len(delta), -1), full_matrices=False)
            delta = ((U[:, :2] * S[:2]) @ Vh[:2]).reshape(delta.shape)
            cut += not (name.startswith("tied") and weight.startswith("lm_head"))  # the embedding once more
        np.testing.assert_allclose(found[weight].numpy(), W0.double().numpy() + delta, atol=3e-5, err_msg=weight)
    assert cut == len(result.matrices) > 1
    assert result.count_before is not None and result.count_after is not None


def test_the_error_is_eckart_youngs_to_the_last_digits(linear: Case, tmp_path: Path) -> None:
    result = resize(linear.adapter, out=tmp_path / "out", rank=3, count=False)
    for matrix in result.matrices:
        left = float(np.linalg.norm(matrix.singular_values[3:]))
        assert matrix.error == pytest.approx(left, rel=1e-6)
        assert matrix.least_error <= matrix.error


def test_the_present_rank_leaves_the_factors_as_they_are(linear: Case, tmp_path: Path) -> None:
    result = resize(linear.adapter, out=tmp_path / "out", rank=12, count=False)
    assert {(matrix.rank_before, matrix.rank) for matrix in result.matrices} == {(6, 6)}
    assert result.error == pytest.approx(0, abs=1e-12)  # of the difference of two products
    torch.testing.assert_close(linear.logits(tmp_path / "out"), linear.logits(linear.adapter), atol=0, rtol=0)


def test_energy_and_error_choose_per_module(linear: Case, tmp_path: Path) -> None:
    result = resize(linear.adapter, out=tmp_path / "out", energy=0.9, count=False)
    for matrix in result.matrices:
        kept = np.cumsum(np.square(matrix.singular_values)) / np.sum(np.square(matrix.singular_values))
        assert kept[matrix.rank - 1] >= 0.9 and (matrix.rank == 1 or kept[matrix.rank - 2] < 0.9)
    other = resize(linear.adapter, out=tmp_path / "other", error=0.5, count=False)
    for matrix in other.matrices:
        assert all(s <= 0.5 * matrix.singular_values[0] for s in matrix.singular_values[matrix.rank :])


def test_a_budget_is_kept_with_rank_one_at_least(linear: Case, tmp_path: Path) -> None:
    result = resize(linear.adapter, out=tmp_path / "out", parameters=700, count=False)
    assert result.parameters <= 700 and min(matrix.rank for matrix in result.matrices) >= 1
    with pytest.raises(SpectrumError, match="fewer than rank 1 takes in every module"):
        resize(linear.adapter, out=tmp_path / "less", parameters=100, count=False)


def test_only_included_modules_change(linear: Case, tmp_path: Path) -> None:
    result = resize(linear.adapter, out=tmp_path / "out", rank=1, selection=Selection(include="q_proj"), count=False)
    assert {matrix.role for matrix in result.matrices} == {"q_proj"}
    before, found = linear.merged(linear.adapter), linear.merged(tmp_path / "out")
    assert all(torch.equal(before[name], found[name]) == ("q_proj.weight" not in name) for name in before)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"init_lora_weights": "pissa"}, "initialised with 'pissa'"),
        ({"target_parameters": ["mlp.up_proj.weight"]}, "a LoRA on bare parameters"),
    ],
)
def test_what_is_no_plain_lora_is_refused(settings: dict[str, Any], reason: str, tmp_path: Path) -> None:
    case = save(tmp_path, llama, target_modules=ATTENTION, **settings)
    with pytest.raises(AdapterError, match=reason):
        resize(case.adapter, out=tmp_path / "out", rank=1)
    assert not (tmp_path / "out").exists()


def test_an_update_of_zero_a_full_checkpoint_and_the_source_itself_are_refused(linear: Case, tmp_path: Path) -> None:
    zero = save(tmp_path, llama, size=0.0, target_modules=ATTENTION)
    with pytest.raises(SpectrumError, match="Every update of this adapter is zero"):
        resize(zero.adapter, out=tmp_path / "out", rank=1)
    with pytest.raises(AdapterError, match="is no adapter folder of peft"):
        resize(linear.base, out=tmp_path / "out", rank=1)
    with pytest.raises(DestinationError, match="which the command reads"):
        resize(linear.adapter, out=linear.adapter, rank=1, force=True)


def test_an_adapter_on_one_of_two_stacks_is_counted_under_the_names_of_its_base(tmp_path: Path) -> None:
    """The language model of a pair of stacks: alone, its names would begin after "language_model"."""
    torch.manual_seed(0)
    names = [f"language_model.layers.{i}.self_attn.{part}" for i in range(2) for part in ("q_proj", "v_proj")]
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    tensors = {f"{name}.weight": torch.randn(24, 24) for name in [*names, "vision_tower.encoder.layers.0.q_proj"]}
    factors = {f"base_model.model.{name}.lora_{part}.weight": torch.randn(*shape)
               for name in names for part, shape in (("A", (4, 24)), ("B", (24, 4)))}  # fmt: skip
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
    for folder in (base, adapter):
        folder.mkdir()
    save_file(tensors, base / "model.safetensors")
    save_file(factors, adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": str(base)}))
    result = resize(adapter, out=tmp_path / "out", rank=2, k=4, epsilon=0.7)
    assert [matrix.name for matrix in result.matrices] == names
    counts = {str(matrix.name): matrix.count for matrix in intruders(adapter, base, k=4, epsilon=0.7).matrices}
    assert {matrix.name: matrix.count_before for matrix in result.matrices} == counts and sum(counts.values())


def test_an_adapter_of_a_convolution_alone_is_counted(tmp_path: Path) -> None:
    case = save(tmp_path, vit, target_modules=["projection"], r=6)
    (matrix,) = resize(case.adapter, out=tmp_path / "out", rank=2, k=3).matrices
    assert matrix.rank == 2 and matrix.count_before is not None
