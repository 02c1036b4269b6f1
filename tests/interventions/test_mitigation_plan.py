"""The treatment of one matrix: what it refuses."""

from dataclasses import replace
from pathlib import Path

import pytest

import spectra
from spectra.errors import AdapterError, SpectrumError
from spectra.interventions.mitigation_plan import MitigationPlan, mitigated_factors
from tests.interventions.adapters import llama, save

PLAN = MitigationPlan(lam=0.5, select="top", share=0.9, rank="exact", shrink=False)


def test_vectors_other_than_the_judged_ones_are_not_treated(tmp_path: Path) -> None:
    case = save(tmp_path, llama, target_modules=["q_proj"])
    matrix = spectra.open_pair(case.base, case.adapter).matrices[0]
    spectrum = spectra.intruders(case.adapter, k=4, epsilon=0.99).matrices[0]
    assert mitigated_factors(matrix, spectrum, PLAN, "cpu")[1].rank_after == 4
    other = replace(
        spectrum, vectors=tuple(replace(v, singular_value=1.1 * v.singular_value) for v in spectrum.vectors)
    )
    with pytest.raises(SpectrumError, match=r"Vector \d of 'layers\.0.*' has the singular value .* in the scan"):
        mitigated_factors(matrix, other, PLAN, "cpu")


def test_a_module_with_scaling_zero_is_named(tmp_path: Path) -> None:
    case = save(tmp_path, llama, target_modules=["q_proj"], lora_alpha=0)
    matrix = spectra.open_pair(case.base, case.adapter).matrices[0]
    spectrum = spectra.intruders(case.adapter, k=4).matrices[0]
    spectrum = replace(spectrum, vectors=tuple(replace(v, is_intruder=True) for v in spectrum.vectors))
    with pytest.raises(AdapterError, match=r"The scaling of 'layers\.0\.self_attn\.q_proj' is 0"):
        mitigated_factors(matrix, spectrum, PLAN, "cpu")


@pytest.mark.gpu
def test_a_gpu_gives_the_same_factors(tmp_path: Path) -> None:
    case = save(tmp_path, llama, target_modules=["q_proj"])
    matrix = spectra.open_pair(case.base, case.adapter).matrices[0]
    spectrum = spectra.intruders(case.adapter, k=4, epsilon=0.99).matrices[0]
    one, other = (mitigated_factors(matrix, spectrum, PLAN, device)[0].update for device in ("cpu", "cuda"))
    assert float((one.dense() - other.dense().cpu()).abs().max()) < 1e-4
