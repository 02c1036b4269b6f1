from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from spectra.errors import DataError, ModelError
from spectra.forgetting.output_drift import METRIC, output_drift, with_drift
from spectra.metrics.drift import OutputDrift
from spectra.models import LoadedModel, load_base
from spectra.models.kinds import ModelKind
from spectra.records import MatrixScan, Scan
from spectra.weights import open_pair
from tests import tiny

TEXTS = ("w1 good w2 w3", "w4 bad", "w5 w6 w7 w8 w9 w10 lovely")


def test_an_update_of_a_tenth_of_the_output_drifts_by_a_hundredth() -> None:
    drift = OutputDrift()
    drift.add(torch.tensor([[0.3, 0.4]]), torch.tensor([[3.0, 4.0]]))
    assert drift.value == pytest.approx(0.01)
    drift.add(torch.zeros(3, 2), torch.tensor([[5.0, 0.0]] * 3))
    assert (drift.value, drift.tokens) == (pytest.approx(0.0025), 4)


def test_no_input_gives_no_number() -> None:
    assert OutputDrift().value is None


def test_white_inputs_give_the_ratio_of_frobenius_norms() -> None:
    generator = torch.Generator().manual_seed(0)
    W0, delta = (torch.randn(6, 8, generator=generator) for _ in range(2))
    inputs = 8**0.5 * torch.linalg.qr(torch.randn(8, 8, generator=generator))[0]
    drift = OutputDrift()
    drift.add(inputs @ delta.mH, inputs @ W0.mH)
    assert drift.value == pytest.approx(float(delta.norm() ** 2 / W0.norm() ** 2), rel=1e-5)


def _saved(folder: Path, family: str, kind: ModelKind) -> tuple[LoadedModel, Path, Path]:
    """A base, an adapter on it with large factors, and the same change as a full checkpoint."""
    base = tiny.save_model(folder / "base", family)
    tuned = get_peft_model(load_base(base, kind).model, LoraConfig(r=2, lora_alpha=6, target_modules="all-linear"))  # type: ignore[arg-type]
    torch.manual_seed(1)
    for name, parameter in tuned.named_parameters():
        if "lora_" in name:
            parameter.data = 0.3 * torch.randn_like(parameter)
    tuned.peft_config["default"].base_model_name_or_path = base
    tuned.save_pretrained(folder / "adapter")
    tuned.merge_and_unload().save_pretrained(folder / "full")  # type: ignore[operator]
    return load_base(base, kind), folder / "adapter", folder / "full"


@pytest.mark.parametrize(("family", "kind"), [("bert", "encoder"), ("llama", "causal-lm"), ("gpt2", "causal-lm")])
def test_drift_equals_a_direct_computation_on_stored_activations(tmp_path: Path, family: str, kind: ModelKind) -> None:
    loaded, adapter, full = _saved(tmp_path, family, kind)
    pair = open_pair(loaded.reference, adapter)
    found = output_drift(pair, loaded.model, loaded.tokenizer, TEXTS, batch_size=2)
    assert set(found) == {str(matrix.name) for matrix in pair.matrices if not str(matrix.name).startswith("lm_head")}
    inputs: dict[str, list[torch.Tensor]] = {name: [] for name in found}
    body = loaded.model.base_model
    for name, module in body.named_modules():
        if name in inputs:
            module.register_forward_hook(lambda module, given, output, name=name: inputs[name].append(given[0]))
    with torch.no_grad():
        for text in TEXTS:  # one by one: no padding at all
            body(**{k: v for k, v in loaded.tokenizer(text, return_tensors="pt").items() if k != "token_type_ids"})
    for matrix in pair.matrices:
        if str(matrix.name) not in found:
            continue
        h = torch.cat([one.reshape(-1, one.shape[-1]) for one in inputs[str(matrix.name)]]).double().numpy()
        delta, W0 = matrix.delta_W().double().numpy(), matrix.W0.load(torch.float64).numpy()
        expected = np.linalg.norm(h @ delta.T) ** 2 / np.linalg.norm(h @ W0.T) ** 2
        assert found[str(matrix.name)].value == pytest.approx(expected, rel=1e-4)
        assert found[str(matrix.name)].tokens == len(h)
    of_full = output_drift(open_pair(loaded.reference, full), loaded.model, loaded.tokenizer, TEXTS)
    assert {n: d.value for n, d in of_full.items()} == pytest.approx({n: d.value for n, d in found.items()}, rel=1e-3)


def test_the_hooks_are_gone_afterwards_and_the_scan_carries_the_number(tmp_path: Path) -> None:
    loaded, adapter, _ = _saved(tmp_path, "bert", "encoder")
    pair = open_pair(loaded.reference, adapter)
    drift = output_drift(pair, loaded.model, loaded.tokenizer, TEXTS)
    assert not any(module._forward_hooks for module in loaded.model.modules())
    name = str(pair.matrices[0].name)
    empty = [MatrixScan(n, 0, "q", "attention", (16, 16)) for n in (name, "elsewhere")]
    scan = with_drift(Scan("a", "b", ("update",), 10, 0.5, "left", 0, tuple(empty)), drift, "three texts")
    assert scan.matrices[0].value(METRIC) == drift[name].value
    assert scan.matrices[1].measures == ()


def test_what_cannot_be_measured_is_said(tmp_path: Path) -> None:
    loaded, adapter, _ = _saved(tmp_path, "bert", "encoder")
    pair = open_pair(loaded.reference, adapter)
    with pytest.raises(DataError, match="No text was given to measure drift on"):
        output_drift(pair, loaded.model, loaded.tokenizer, ())
    stranger = load_base(tiny.save_model(tmp_path / "other", "llama"), "causal-lm")
    with pytest.raises(ModelError, match=r"No module of LlamaModel has one of the 12 compared matrices"):
        output_drift(pair, stranger.model, stranger.tokenizer, TEXTS)
