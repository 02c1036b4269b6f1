"""Every kind of adapter that the installed peft knows: merged as peft merges it, or refused in one sentence."""

from pathlib import Path

import peft
import pytest
import torch
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from tuned import tune

from spectra.errors import AdapterError
from spectra.weights import open_pair

TARGETS = ["q_proj", "v_proj", "down_proj"]
KINDS = {str(kind.value): config for kind, config in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
SETTINGS: dict[str, dict[str, object]] = {
    "ADALORA": {"total_step": 10, "target_r": 4, "init_r": 4},
    "BOFT": {"boft_block_size": 4},
    "C3A": {"block_size": 4},
    "FOURIERFT": {"n_frequency": 20},
    "GRALORA": {"r": 4},
    "IA3": {"feedforward_modules": ["down_proj"]},
    "MISS": {"r": 4},
    "OFT": {"oft_block_size": 4},
    "PSOFT": {"r": 4},
    "RANDLORA": {"r": 4},
    "ROAD": {"group_size": 4},
    "SHIRA": {"r": 2},
    "VBLORA": {"vector_length": 4, "num_vectors": 16, "topk": 2},
    "WAVEFT": {"n_frequency": 20},
}
# Kinds that change no weight matrix of a block, cannot be merged, or whose merge is of another shape (biases, norms).
OTHERS = {
    "ADAPTION_PROMPT",
    "BEFT",
    "CARTRIDGE",
    "CPT",
    "LILY",
    "LN_TUNING",
    "MULTITASK_PROMPT_TUNING",
    "POLY",
    "PREFIX_TUNING",
    "PROMPT_TUNING",
    "P_TUNING",
    "SHADOW",
    "TRAINABLE_TOKENS",
    "XLORA",
}
MERGED = sorted(set(KINDS) - OTHERS)


@pytest.mark.parametrize("kind", MERGED)
def test_a_merged_kind_agrees_with_pefts_merge_of_the_whole_model(kind: str, tmp_path: Path) -> None:
    tuned = tune(tmp_path, "llama", KINDS[kind](target_modules=TARGETS, **SETTINGS.get(kind, {})))
    pair = open_pair(tuned.base, tuned.adapter)
    assert len(pair.matrices) == 6 and pair.method == kind.lower()
    for matrix in pair.matrices:
        expected = tuned.delta(matrix.name.canonical, conv1d=False)
        torch.testing.assert_close(matrix.delta_W(torch.float64), expected, atol=2e-6, rtol=1e-5)
        assert expected.abs().max() > 1e-4


@pytest.mark.parametrize("kind", ["VERA", "RANDLORA"])
def test_random_projections_that_were_not_saved_are_drawn_again(kind: str, tmp_path: Path) -> None:
    tuned = tune(
        tmp_path, "llama", KINDS[kind](target_modules=TARGETS, save_projection=False, **SETTINGS.get(kind, {}))
    )
    for matrix in open_pair(tuned.base, tuned.adapter).matrices:
        expected = tuned.delta(matrix.name.canonical, conv1d=False)
        torch.testing.assert_close(matrix.delta_W(torch.float64), expected, atol=2e-6, rtol=1e-5)


def test_a_lora_variant_that_changes_the_base_goes_through_peft(tmp_path: Path) -> None:
    if not hasattr(peft, "KasaConfig") and "kasa_config" not in peft.LoraConfig.__dataclass_fields__:
        pytest.skip("this peft has no KaSA")
    from peft.tuners.lora.config import KasaConfig

    tuned = tune(tmp_path, "llama", peft.LoraConfig(r=4, target_modules=TARGETS, kasa_config=KasaConfig()))
    for matrix in open_pair(tuned.base, tuned.adapter).matrices:
        expected = tuned.delta(matrix.name.canonical, conv1d=False)
        torch.testing.assert_close(matrix.delta_W(torch.float64), expected, atol=5e-6, rtol=1e-5)


def test_a_prompt_is_refused_because_it_changes_no_matrix(tmp_path: Path) -> None:
    tuned = tune(tmp_path, "llama", peft.LoraConfig(target_modules=TARGETS))
    config = tuned.adapter / "adapter_config.json"
    config.write_text('{"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4}')
    with pytest.raises(AdapterError, match="a PROMPT_TUNING adapter, which changes no weight matrix"):
        open_pair(tuned.base, tuned.adapter)


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    tuned = tune(tmp_path, "llama", peft.LoraConfig(target_modules=TARGETS))
    config = tuned.adapter / "adapter_config.json"
    config.write_text(config.read_text().replace('"LORA"', '"NOVEL"'))
    with pytest.raises(AdapterError, match=r"unknown kind 'NOVEL'.*Install a peft that knows it"):
        open_pair(tuned.base, tuned.adapter)


def test_a_kind_that_cannot_be_merged_says_so_with_the_remedy(tmp_path: Path) -> None:
    from families import FAMILIES
    from tuned import perturb, quiet

    with quiet():
        FAMILIES["llama"].build().save_pretrained(tmp_path / "base")
        model = peft.get_peft_model(FAMILIES["llama"].build(), KINDS["LILY"](target_modules=TARGETS))
        perturb(model)
        model.save_pretrained(tmp_path / "adapter")
    pair = open_pair(tmp_path / "base", tmp_path / "adapter")
    with pytest.raises(AdapterError, match=r"peft cannot merge .* of the LILY adapter.*Merge it with peft"):
        pair.matrices[0].W_tuned()
