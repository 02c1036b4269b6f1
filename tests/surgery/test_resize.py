"""Resized adapters against peft's merge and the truncated SVD of the merged update."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spectra.errors import AdapterError, DestinationError, SpectrumError
from spectra.records.selection import Selection
from spectra.surgery import resize
from tests.interventions.adapters import Case, gpt2, llama, save

ATTENTION = ["q_proj", "v_proj", "down_proj"]
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
        if delta.ndim == 2 and delta.any() and not weight.startswith("lm_head"):
            U, S, Vh = np.linalg.svd(delta, full_matrices=False)
            delta = (U[:, :2] * S[:2]) @ Vh[:2]
            cut += 1
        np.testing.assert_allclose(found[weight].numpy(), W0.double().numpy() + delta, atol=3e-5, err_msg=weight)
    assert cut == len(result.matrices) > 2
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
    [({"use_dora": True}, "DoRA"), ({"init_lora_weights": "pissa"}, "initialised with 'pissa'")],
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
