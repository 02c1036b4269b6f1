"""Settings for which transformers would fetch code: refused where a model is loaded, ignored where none is."""

import json
from pathlib import Path
from typing import Any

import pytest

from spectra.errors import SpectraError
from spectra.models import load_base
from spectra.weights.kernels import require_no_kernels, without_kernels
from tests import tiny

FOREIGN = ("kernels-community/flash-attn", "evil/kernel:name", "flash_attention_3", "../x", 5, {"": "evil/kernel"})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(tiny.save_model(tmp_path_factory.mktemp("model"), "llama"))


@pytest.mark.parametrize("name", FOREIGN, ids=str)
@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation_internal", "experts_implementation"])
def test_kernels_of_others_are_refused_wherever_they_are_named(name: object, key: str) -> None:
    for config in ({key: name}, {"text_config": {"deeper": {key: name}}}):
        with pytest.raises(SpectraError, match=rf"sets {key} to .*, which is code of others\. It is not fetched"):
            require_no_kernels(config, "x")
        assert key not in json.dumps(without_kernels(config))


def test_what_transformers_holds_itself_is_allowed() -> None:
    require_no_kernels({"attn_implementation": "sdpa", "text_config": {"_attn_implementation": None}}, "x")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"attn_implementation": "kernels-community/flash-attn"}, "which is code of others"),
        ({"quantization_config": {"quant_method": "torchao", "quant_type": "evil.C"}}, "cannot be loaded"),
        ({"quantization_config": {"quant_method": ["a"]}}, "cannot be loaded"),
        ({"quantization_config": "x"}, "cannot be loaded"),
        ({"num_attention_heads": 0}, "cannot be loaded"),
        ({"hidden_size": "wide"}, "cannot be loaded"),
    ],
)
def test_a_model_with_such_settings_is_refused_in_one_sentence(
    model: Path, tmp_path: Path, changed: dict[str, Any], told: str
) -> None:
    for file in model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((model / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changed}))
    with pytest.raises(SpectraError, match=told) as refusal:
        load_base(str(tmp_path), "causal-lm")
    assert "\n" not in str(refusal.value)


def test_a_model_in_memory_numbers_its_labels() -> None:
    config = {"id2label": {0: "no", 1: "yes"}, "attn_implementation": "sdpa"}
    assert without_kernels(config) == {"id2label": {0: "no", 1: "yes"}}
    require_no_kernels(config, "x")
