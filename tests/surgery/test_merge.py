"""Merges against peft's own sums, and the forecast against full SVDs in NumPy."""

import json
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertConfig, BertModel

from spectra.errors import AdapterError, CheckpointError, DestinationError, SpectrumError
from spectra.records.merge import Merge
from spectra.records.selection import Selection
from spectra.surgery import merge
from tests import reference
from tests.interventions.adapters import llama, quiet, save

TARGETS = ["q_proj", "v_proj", "down_proj"]
K, EPSILON = 4, 0.8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and three adapters: two small ones, and one that is the first one turned around."""
    folder = tmp_path_factory.mktemp("merge")
    case = save(folder, llama, size=0.1, target_modules=TARGETS, r=2)
    for name, seed, settings in (("second", 7, {"r": 3, "use_rslora": True}), ("opposed", 2, {"r": 2})):
        with quiet():
            model = peft.get_peft_model(llama(), peft.LoraConfig(lora_alpha=5, target_modules=TARGETS, **settings))
            model.peft_config["default"].base_model_name_or_path = str(case.base)
            torch.manual_seed(seed)
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.data += 0.1 * torch.randn_like(parameter)
            if name == "opposed":
                first = peft.PeftModel.from_pretrained(llama(), case.adapter).state_dict()
                model.load_state_dict(
                    {key: -value if "lora_B" in key else value for key, value in first.items()}, strict=False
                )
            model.save_pretrained(folder / name)
    return folder


def run(folder: Path, *names: str, **settings: object) -> Merge:
    return merge([folder / name for name in names], **{"k": K, "epsilon": EPSILON, "critical": False, **settings})


def deltas(folder: Path, name: str) -> dict[str, np.ndarray]:
    """delta_W of every adapted weight, by peft's merge, in float64."""
    with quiet():
        merged = peft.PeftModel.from_pretrained(llama(), folder / name).merge_and_unload().state_dict()
    base = llama().state_dict()
    return {
        key: (merged[key] - base[key]).double().numpy()
        for key in base
        if any(f"{target}.weight" in key for target in TARGETS)
    }


def test_the_merged_adapter_is_the_weighted_sum(folder: Path, tmp_path: Path) -> None:
    result = run(folder, "adapter", "second", weights=[0.5, -2.0], out=tmp_path / "out")
    one, other, found = deltas(folder, "adapter"), deltas(folder, "second"), deltas(tmp_path, "out")
    for key in one:
        np.testing.assert_allclose(found[key], 0.5 * one[key] - 2.0 * other[key], atol=2e-6)
    assert {matrix.rank for matrix in result.matrices} == {5}


def test_the_merged_checkpoint_is_w0_plus_the_sum(folder: Path, tmp_path: Path) -> None:
    run(folder, "adapter", "second", checkpoint=tmp_path / "full")
    with quiet():
        found = type(llama()).from_pretrained(tmp_path / "full").state_dict()
    base, one, other = llama().state_dict(), deltas(folder, "adapter"), deltas(folder, "second")
    for key, W0 in base.items():
        expected = W0.double().numpy() + (one[key] + other[key] if key in one else 0)
        np.testing.assert_allclose(found[key].numpy(), expected, atol=2e-6, err_msg=key)


def new_intruders(W0: np.ndarray, singles: list[np.ndarray], whole: np.ndarray) -> tuple[list[int], int, int]:
    """Counts of the single ones and of the sum, and those of the sum that resemble no single one: full SVDs."""
    vectors, counts = [], []
    for delta in [*singles, whole]:
        cosines = reference.largest_cosines(W0, W0 + delta, K)
        U = np.linalg.svd(W0 + delta)[0][:, :K]
        vectors.append(U[:, cosines < EPSILON])
        counts.append(vectors[-1].shape[1])
    known, merged = np.concatenate(vectors[:-1], axis=1), vectors[-1]
    new = sum(not known.shape[1] or np.abs(known.T @ y).max() < EPSILON for y in merged.T)
    return counts[:-1], counts[-1], int(new)


def test_the_forecast_is_that_of_full_svds(folder: Path) -> None:
    result = run(folder, "adapter", "second", weights=[1.5, 1.0])
    one, other, base = deltas(folder, "adapter"), deltas(folder, "second"), llama().state_dict()
    for matrix in result.matrices:
        key = next(key for key in one if matrix.name in key)
        W0 = base[key].double().numpy()
        counts, count, new = new_intruders(W0, [one[key], other[key]], 1.5 * one[key] + other[key])
        assert (list(matrix.counts), matrix.count, matrix.new) == (counts, count, new)
        whole = 1.5 * one[key] + other[key]
        assert matrix.norm == pytest.approx(float(np.linalg.norm(whole)), rel=1e-5)
        energies = 2.25 * np.linalg.norm(one[key]) ** 2 + np.linalg.norm(other[key]) ** 2
        assert matrix.cancelled == pytest.approx(1 - np.linalg.norm(whole) ** 2 / energies, abs=1e-5)
    assert result.count > 0


def test_opposed_adapters_cancel_and_the_pair_is_found(folder: Path) -> None:
    result = run(folder, "adapter", "second", "opposed")
    pair = result.worst_pair
    assert pair is not None and (pair.first, pair.second) == (0, 2)
    assert pair.cosine == pytest.approx(-1, abs=1e-5)
    assert pair.phi_out == pytest.approx(1, abs=1e-5) and pair.above_out == pair.matrices == 6
    both = run(folder, "adapter", "opposed")
    assert both.cancelled == pytest.approx(1, abs=1e-6) and both.count == both.new == 0
    assert "100 % of the adapters' squared norms cancel in the sum." in both.sentences()


def test_the_first_new_intruder_lies_between_the_scales_that_are_named(folder: Path) -> None:
    result = run(folder, "adapter", "second", critical=True, selection=Selection(roles="q_proj"))
    one, other, base = deltas(folder, "adapter"), deltas(folder, "second"), llama().state_dict()
    found = [matrix for matrix in result.matrices if matrix.first_new_at is not None]
    assert found
    for matrix in found:
        key = next(key for key in one if matrix.name in key)
        W0, whole = base[key].double().numpy(), one[key] + other[key]
        assert matrix.clear_up_to is not None and matrix.first_new_at is not None
        assert new_intruders(W0, [one[key], other[key]], matrix.first_new_at * whole)[2] > 0
        if matrix.clear_up_to > 0:
            assert new_intruders(W0, [one[key], other[key]], matrix.clear_up_to * whole)[2] == 0


def test_a_resized_merge_comes_with_its_error(folder: Path, tmp_path: Path) -> None:
    result = run(folder, "adapter", "second", out=tmp_path / "out", rank=2)
    assert result.reduction is not None
    one, other, found = deltas(folder, "adapter"), deltas(folder, "second"), deltas(tmp_path, "out")
    for matrix in result.reduction.matrices:
        key = next(key for key in one if matrix.name in key)
        S = np.linalg.svd(one[key] + other[key], compute_uv=False)
        assert matrix.error == pytest.approx(float(np.linalg.norm(S[2:])), rel=1e-4)
        assert np.linalg.norm(one[key] + other[key] - found[key]) == pytest.approx(matrix.error, rel=1e-3)
    assert result.reduction.count_before == result.count


@pytest.mark.parametrize(
    ("names", "settings", "told"),
    [
        (["adapter"], {}, "merging takes two"),
        (["adapter", "adapter"], {}, "given twice"),
        (["adapter", "second"], {"weights": [1.0]}, "1 weights were given for 2 adapters"),
        (["adapter", "second"], {"weights": [1.0, 0.0]}, "each is a number other than 0"),
        (["adapter", "second"], {"weights": [1.0, float("nan")]}, "each is a number other than 0"),
        (["adapter", "second"], {"rank": 2}, "no folder for the merged adapter"),
    ],
)
def test_settings_without_meaning_are_refused(
    folder: Path, names: list[str], settings: dict[str, object], told: str
) -> None:
    with pytest.raises(SpectrumError, match=told):
        run(folder, *names, **settings)


def test_another_base_dora_and_an_output_that_exists_are_refused(folder: Path, tmp_path: Path) -> None:
    other = save(tmp_path, llama, target_modules=TARGETS, use_dora=True)
    with pytest.raises(AdapterError, match="only plain LoRA is merged"):
        merge([folder / "adapter", other.adapter], base=folder / "base")
    with quiet():
        moved = llama()
        for parameter in moved.parameters():
            parameter.data += 0.1
        moved.save_pretrained(tmp_path / "base2")
    config = json.loads((folder / "second" / "adapter_config.json").read_text())
    (tmp_path / "stranger").mkdir()
    (tmp_path / "stranger" / "adapter_config.json").write_text(
        json.dumps({**config, "base_model_name_or_path": str(tmp_path / "base2")})
    )
    weights = "adapter_model.safetensors"
    (tmp_path / "stranger" / weights).write_bytes((folder / "second" / weights).read_bytes())
    with pytest.raises(CheckpointError, match="different bases"):
        merge([folder / "adapter", tmp_path / "stranger"])
    with pytest.raises(DestinationError, match="exists"):
        run(folder, "adapter", "second", out=tmp_path)


def test_the_record_is_a_table_and_an_object(folder: Path) -> None:
    result = run(folder, "adapter", "second")
    told = json.loads(json.dumps(result.to_dict()))
    assert told["counts"] == list(result.counts) and len(result.to_dataframe()) == len(told["matrices"])
    assert "<table>" in result._repr_html_()


def test_a_merge_of_classifiers_fits_the_bare_base(tmp_path: Path) -> None:
    config = BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=32, initializer_range=0.2,
    )  # fmt: skip
    target = "encoder.layer.1.attention.self.query.weight"
    base = BertModel(config)
    base.save_pretrained(tmp_path / "base")
    expected = base.state_dict()[target].clone()
    with quiet():
        for seed in (1, 2):
            model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=3)
            tuned = peft.get_peft_model(
                model, peft.LoraConfig(r=2, target_modules=["query"], task_type="SEQ_CLS", init_lora_weights=False)
            )
            tuned.save_pretrained(tmp_path / str(seed))
            expected += tuned.merge_and_unload().state_dict()[f"bert.{target}"] - base.state_dict()[target]
        run(tmp_path, "1", "2", base=tmp_path / "base", out=tmp_path / "out")
        merged = peft.PeftModel.from_pretrained(BertModel.from_pretrained(tmp_path / "base"), tmp_path / "out")
    torch.testing.assert_close(merged.merge_and_unload().state_dict()[target], expected, atol=1e-5, rtol=1e-5)
