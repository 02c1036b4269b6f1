"""Which matrices are compared, and what they are called."""

from pathlib import Path

import pytest
from families import FAMILIES
from tuned import quiet

from spectra import Selection
from spectra.errors import CheckpointError
from spectra.weights import MatrixName, open_pair
from spectra.weights.matching.names import canonical_names


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    with quiet():
        FAMILIES["llama"].build().save_pretrained(folder)
    return folder


def names(base: Path, **options: object) -> list[str]:
    return [str(matrix.name) for matrix in open_pair(base, base, Selection(**options)).matrices]


def test_the_default_is_every_linear_layer_of_the_blocks(base: Path) -> None:
    pair = open_pair(base, base)
    assert len(pair.matrices) == 14
    reasons = {skipped.name: skipped.reason for skipped in pair.skipped}
    assert "embedding" in reasons["embed_tokens"] and "outside the blocks" in reasons["lm_head"]


def test_roles_layers_and_patterns_narrow_the_choice(base: Path) -> None:
    both = [f"layers.{layer}.self_attn.{role}" for layer in (0, 1) for role in ("q_proj", "v_proj")]
    assert names(base, roles="q_proj,v_proj") == both
    assert names(base, roles=" q_proj , v_proj ", layers="1") == both[2:]
    assert names(base, include=r"self_attn\.[qv]_proj", layers="0-0") == both[:2]
    assert names(base, include="self_attn", exclude="[ko]_proj") == both
    assert names(base, include="lm_head|embed_tokens") == ["lm_head", "embed_tokens"]
    skipped = {skipped.name: skipped.reason for skipped in open_pair(base, base, Selection(layers="0")).skipped}
    assert skipped["layers.1.mlp.up_proj"] == "its layer is not among --layers"


def test_a_choice_that_leaves_nothing_is_refused_with_the_reasons(base: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is left to compare \(14 its role is not among --roles; .*Widen"):
        open_pair(base, base, Selection(roles="lm_head"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"include": "("}, r"--include '\(' is no regular expression"),
        ({"exclude": "["}, r"--exclude '\[' is no regular expression"),
        ({"layers": "a-b"}, "--layers 'a-b' is no list of layers"),
        ({"layers": "3-1"}, "--layers '3-1' is no list of layers"),
        ({"layers": ""}, "--layers '' is no list of layers"),
    ],
)
def test_a_malformed_choice_is_told(options: dict, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        Selection(**options)


def test_layers_are_lists_and_ranges() -> None:
    assert Selection(layers="0, 3,8-11").chosen_layers == {0, 3, 8, 9, 10, 11}


@pytest.mark.parametrize(
    ("modules", "module", "name"),
    [
        (
            ["model.layers.3.self_attn.q_proj", "lm_head"],
            "model.layers.3.self_attn.q_proj",
            MatrixName("layers.3.self_attn.q_proj", 3, "q_proj", "attention"),
        ),
        (
            [
                f"bert.encoder.layer.11.{end}"
                for end in ("attention.output.dense", "intermediate.dense", "output.dense")
            ],
            "bert.encoder.layer.11.attention.output.dense",
            MatrixName("encoder.layer.11.attention.output.dense", 11, "attention.output.dense", "attention"),
        ),
        (
            ["bert.encoder.layer.2.output.dense", "bert.encoder.layer.2.attention.output.dense"],
            "bert.encoder.layer.2.output.dense",
            MatrixName("encoder.layer.2.output.dense", 2, "output.dense", "mlp"),
        ),
        (
            ["transformer.h.0.attn.c_proj", "transformer.h.0.mlp.c_proj"],
            "transformer.h.0.mlp.c_proj",
            MatrixName("h.0.mlp.c_proj", 0, "mlp.c_proj", "mlp"),
        ),
        (
            ["encoder.block.5.layer.0.SelfAttention.q", "decoder.block.5.layer.1.EncDecAttention.q"],
            "decoder.block.5.layer.1.EncDecAttention.q",
            MatrixName("decoder.block.5.layer.1.EncDecAttention.q", 5, "EncDecAttention.q", "attention"),
        ),
        (
            ["model.layers.1.block_sparse_moe.experts.7.w2", "model.layers.1.block_sparse_moe.gate"],
            "model.layers.1.block_sparse_moe.experts.7.w2",
            MatrixName("layers.1.block_sparse_moe.experts.7.w2", 1, "w2", "expert"),
        ),
        (
            ["model.vision_tower.encoder.layers.0.mlp.fc1", "model.language_model.layers.0.mlp.up_proj"],
            "model.language_model.layers.0.mlp.up_proj",
            MatrixName("language_model.layers.0.mlp.up_proj", 0, "up_proj", "mlp"),
        ),
        (
            ["gpt_neox.layers.4.attention.dense", "gpt_neox.layers.4.mlp.dense_h_to_4h"],
            "gpt_neox.layers.4.attention.dense",
            MatrixName("layers.4.attention.dense", 4, "dense", "attention"),
        ),
    ],
)
def test_names_carry_layer_role_and_block_whatever_the_family(
    modules: list[str], module: str, name: MatrixName
) -> None:
    assert canonical_names(modules)[module] == name


def test_a_model_without_blocks_is_compared_whole(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"lin0.weight": torch.ones(4, 3), "lin1.weight": torch.ones(2, 4)}, tmp_path / "model.safetensors")
    assert names(tmp_path) == ["lin0", "lin1"]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"roles": "q_proj,nope"}, r"No matrix has the role nope\. Choose --roles among .*q_proj, .*v_proj\."),
        ({"layers": "0,7,9-20"}, r"No matrix is in layer 7, 9, 10, 11, 12 and 8 more\. Choose --layers among 0 to 1\."),
    ],
)
def test_an_unknown_role_or_layer_beside_a_known_one_is_refused(base: Path, asked: dict[str, str], told: str) -> None:
    with pytest.raises(CheckpointError, match=told):
        open_pair(base, base, Selection(**asked))
