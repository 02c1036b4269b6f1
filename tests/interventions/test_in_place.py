"""Edits of a loaded model: the weights change by the product and come back bit for bit."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import nn

from spectra.errors import ModelError
from spectra.interventions import edited
from spectra.linalg.operators import LowRankUpdate
from tests.interventions.adapters import gpt2, llama, save


def edit(d_out: int, d_in: int, seed: int = 0) -> LowRankUpdate:
    generator = torch.Generator().manual_seed(seed)
    return LowRankUpdate(torch.randn(d_out, 2, generator=generator), torch.randn(2, d_in, generator=generator), -0.5)


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(model: nn.Module, former: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, former[name]) for name, tensor in model.state_dict().items())


def test_a_linear_and_an_embedding_change_by_the_product_and_nothing_else_does() -> None:
    model = llama()
    former = snapshot(model)
    edits = {"layers.1.mlp.down_proj": edit(24, 36), "embed_tokens": edit(40, 24)}
    with edited(model, edits) as inside:
        assert inside is model
        for name, tensor in model.state_dict().items():
            expected = former[name].clone()
            for module, update in edits.items():
                if name.endswith(f"{module}.weight"):
                    expected += -0.5 * update.B @ update.A
            torch.testing.assert_close(tensor, expected, atol=1e-6, rtol=1e-6)
    assert same(model, former)


def test_a_conv1d_weight_gets_the_transposed_product() -> None:
    model = gpt2()
    former = snapshot(model)
    update = edit(72, 24)
    x = torch.randn(3, 24, generator=torch.Generator().manual_seed(1))
    layer = model.transformer.h[0].attn.c_attn
    with torch.no_grad():
        before = layer(x)
        with edited(model, {"h.0.attn.c_attn": update}):
            torch.testing.assert_close(layer(x), before + x @ update.dense().T, atol=1e-5, rtol=1e-5)
        assert torch.equal(layer(x), before)
    assert same(model, former)


def test_beside_an_adapter_the_edit_goes_into_the_right_layout_of_the_base(tmp_path: Path) -> None:
    case = save(tmp_path, gpt2, target_modules=["c_proj"], fan_in_fan_out=True)
    model, update = case.loaded(case.adapter), edit(24, 24)  # square: a wrong layout would not show in the shape
    former = snapshot(model)
    merged = case.merged(case.adapter)["transformer.h.1.attn.c_proj.weight"]
    with edited(model, {"h.1.attn.c_proj": update}):
        inside = deepcopy(model).merge_and_unload().state_dict()["transformer.h.1.attn.c_proj.weight"]
    torch.testing.assert_close(inside, merged + update.dense().T, atol=1e-5, rtol=1e-5)
    assert same(model, former)


def test_bfloat16_weights_come_back_bit_for_bit_also_after_an_error() -> None:
    model = llama().to(torch.bfloat16)
    former = snapshot(model)
    with pytest.raises(RuntimeError, match="inside"), edited(model, {"layers.0.self_attn.q_proj": edit(24, 24)}):
        assert not same(model, former)
        raise RuntimeError("inside")
    assert same(model, former)


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ({"layers.7.mlp.down_proj": edit(24, 36)}, r"'layers\.7\.mlp\.down_proj' is no module of the model"),
        ({"mlp.down_proj": edit(24, 36)}, r"'mlp\.down_proj' fits 2 modules: model\.layers\.0"),
        ({"layers.0.mlp": edit(24, 36)}, "has no floating-point weight matrix"),
        ({"layers.0.mlp.down_proj": edit(36, 24)}, r"is \(36, 24\), and its weight \(24, 36\)"),
    ],
)
def test_an_edit_that_does_not_fit_leaves_the_model_alone(edits: dict[str, LowRankUpdate], message: str) -> None:
    model = llama()
    former = snapshot(model)
    good = {"layers.1.self_attn.q_proj": edit(24, 24)}
    with pytest.raises(ModelError, match=message), edited(model, {**good, **edits}):
        pass
    assert same(model, former)


def test_a_tied_weight_is_not_edited_twice() -> None:
    model = gpt2()
    with (
        pytest.raises(ModelError, match="share one weight"),
        edited(model, {"wte": edit(40, 24), "lm_head": edit(40, 24)}),
    ):
        pass
