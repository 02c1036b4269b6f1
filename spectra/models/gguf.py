"""An ordinary safetensors folder from a GGUF file: its weights dequantised once, kept in the cache."""

import json
from collections.abc import Callable
from pathlib import Path

import torch

from spectra.assets import cache_folder, require_fetching
from spectra.errors import ModelError, needs
from spectra.runs.lock import locked
from spectra.storage.atomic import replacing

GGUF_MARKS = {"quantization_config", "_name_or_path"}


def dequantised(folder: Path, gguf: Path, progress: Callable[[str], None] | None) -> Path:
    """The safetensors folder of a Llama checkpoint in GGUF, float32, with `origin.json`; converted on first use.

    Raises:
        ModelError: If the package gguf is not installed.
    """
    target = cache_folder() / "models" / f"{folder.name}-float32"
    if target.is_dir():
        return target
    require_fetching(folder.name)
    with locked(target.with_name(f"{target.name}.lock")):
        if not target.is_dir():  # another process may have converted it while this one waited
            if progress:
                progress(f"{folder.name}: dequantising {gguf.name} to float32")
            with replacing(target) as content:
                _convert(folder, gguf, content)
    return target


def _convert(folder: Path, gguf: Path, content: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    try:
        quantised = AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=gguf.name, dtype=torch.float32, trust_remote_code=False
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=gguf.name, trust_remote_code=False)
    except ImportError as error:
        raise ModelError(needs(f"The GGUF file '{gguf.name}'", "gguf", "gguf")) from error
    # transformers marks a model read from GGUF as quantised and then refuses to train or save it, although its
    # weights are plain float32 tensors: the same tensors in a model built from the plain configuration are free.
    plain = {key: value for key, value in quantised.config.to_dict().items() if key not in GGUF_MARKS}
    model = LlamaForCausalLM(LlamaConfig.from_dict(plain))
    model.load_state_dict(quantised.state_dict())
    model.tie_weights()
    model.save_pretrained(content)
    tokenizer.save_pretrained(content)
    origin = json.loads((folder / "origin.json").read_text())
    note = f"dequantised from {gguf.name} to float32: W0 is the dequantised checkpoint, not the original one"
    (content / "origin.json").write_text(json.dumps({**origin, "converted": note}, indent=2) + "\n")
