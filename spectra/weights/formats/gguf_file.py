"""GGUF files: tensors dequantised row by row with the gguf package, under the names that transformers uses.

The converter of llama.cpp reorders the rows of query and key matrices of the "llama" architecture for its own
rotary embedding; that is undone here. Architectures whose conversion does more than that are refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spectra.errors import CheckpointError, needs
from spectra.weights.formats.byte_source import FileState
from spectra.weights.formats.named import NamedTensors
from spectra.weights.formats.rotary import interleaved_rows

BLOCK = re.compile(r"^blk\.(?P<layer>\d+)\.(?P<part>\w+)\.weight$")
LLAMA_PARTS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_gate_inp": "mlp.gate",
    "ffn_gate_exps": "mlp.experts.gate_proj",
    "ffn_up_exps": "mlp.experts.up_proj",
    "ffn_down_exps": "mlp.experts.down_proj",
    "ffn_gate_shexp": "mlp.shared_expert.gate_proj",
    "ffn_up_shexp": "mlp.shared_expert.up_proj",
    "ffn_down_shexp": "mlp.shared_expert.down_proj",
}
PHI3_PARTS = {**LLAMA_PARTS, "attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"}
GPT2_PARTS = {"attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj", "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"}
LLAMA_LIKE = ("llama", "qwen2", "qwen3", "qwen2moe", "qwen3moe", "gemma", "gemma2", "gemma3")
ARCHITECTURES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    **dict.fromkeys(LLAMA_LIKE, ("model.layers", LLAMA_PARTS)),
    "phi3": ("model.layers", PHI3_PARTS),
    "gpt2": ("transformer.h", GPT2_PARTS),
}
# The architecture whose query and key rows the converter reorders.
REORDERED = "llama"

# What is kept of the file's own strings and numbers.
METADATA = ("general.architecture", "general.type", "adapter.type", "adapter.lora.alpha")
OUTSIDE = {"token_embd.weight": "model.embed_tokens.weight", "output.weight": "lm_head.weight"}
READ_ERRORS = (ValueError, IndexError, KeyError, OverflowError, UnicodeDecodeError, OSError)


@dataclass(frozen=True, eq=False)
class GgufTensor:
    """A tensor of a GGUF file.

    Attributes:
        name: The name that transformers uses.
        path: The file.
        shape: Shape of the weight.
        nbytes: Bytes in the file.
        data: The mapped bytes, row by row (the package turns float types into plain arrays).
        kind: The quantisation type of the package.
        order: Which stored row is row i, where the converter reordered them.
        state: The file when it was opened.
    """

    name: str
    path: Path
    shape: tuple[int, ...]
    nbytes: int
    data: Any
    kind: Any
    order: Tensor | None
    state: FileState

    @property
    def dtype(self) -> torch.dtype:
        """Dequantised values are float32."""
        return torch.float32

    def read(self) -> Tensor:
        """The whole tensor."""
        if len(self.shape) == 3:
            return torch.stack([self.read_rows(0, self.shape[1], expert) for expert in range(self.shape[0])])
        return self.read_rows(0, self.shape[0])

    def read_rows(self, start: int, stop: int, expert: int | None = None) -> Tensor:
        """Some rows, of one expert where the first axis counts experts."""
        from gguf import quants

        if not self.path.is_file() or FileState.of(self.path) != self.state:
            raise CheckpointError(
                f"'{self.path}' changed while '{self.name}' was read from it. Run again once nothing writes to it."
            )
        rows = self.data if expert is None else self.data[expert]
        taken = rows[start:stop] if self.order is None else rows[self.order[start:stop].numpy()]
        values = quants.dequantize(np.ascontiguousarray(taken), self.kind)
        return torch.from_numpy(np.array(values, dtype=np.float32)).reshape(stop - start, *self.shape[-1:])

    def read_columns(self, start: int, stop: int, expert: int | None = None) -> Tensor:
        """Some columns: whole rows are dequantised for them."""
        return self.read_rows(0, self.shape[-2], expert)[:, start:stop]


def open_gguf(path: Path) -> NamedTensors:
    """Open a GGUF file: a model, or a LoRA adapter, whose factors keep the tails `.lora_a` and `.lora_b`.

    Raises:
        CheckpointError: If the gguf package is absent, the file is broken, or its architecture is not supported.
    """
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise CheckpointError(needs(f"The GGUF file '{path}'", "gguf", "gguf")) from error
    try:
        state = FileState.of(path)
        reader = GGUFReader(path)
        architecture = str(_field(reader, "general.architecture"))
        heads = _field(reader, f"{architecture}.attention.head_count")
        kv_heads = _field(reader, f"{architecture}.attention.head_count_kv") or heads
        told = {key: str(_field(reader, key)) for key in METADATA if key in reader.fields}
    except READ_ERRORS as error:
        raise CheckpointError(f"'{path}' is no readable GGUF file ({error}). Download it again.") from error
    if architecture not in ARCHITECTURES:
        raise CheckpointError(
            f"'{path}' is a GGUF file of architecture '{architecture}', whose conversion spectra cannot undo "
            f"(it can for {', '.join(ARCHITECTURES)}). Give the checkpoint that it was converted from."
        )
    tensors = {}
    for stored in reader.tensors:
        base_name, factor, side = stored.name.partition(".lora_")
        name = _name(architecture, base_name)
        if factor:
            name = f"{name.removesuffix('.weight')}{factor}{side}"
        # The package lists the axes of a tensor from the fastest; here the slowest comes first.
        shape = tuple(int(length) for length in stored.shape)[::-1]
        order = None
        if architecture == REORDERED and stored.name.endswith(("attn_q.weight", "attn_k.weight")):
            order = interleaved_rows(shape[0], heads if "attn_q" in stored.name else kv_heads)
        tensors[name] = GgufTensor(
            name, path, shape, int(stored.n_bytes), stored.data, stored.tensor_type, order, state
        )
    # Without a model type: the file's rows are already outputs, whatever the family's own layout is.
    config = {"num_attention_heads": heads, "num_key_value_heads": kv_heads} if heads else {}
    return NamedTensors(tensors, told, config, dequantised=True)


def _name(architecture: str, name: str) -> str:
    """The name in transformers, or the file's own where there is none."""
    blocks, parts = ARCHITECTURES[architecture]
    found = BLOCK.match(name)
    if found and found["part"] in parts:
        return f"{blocks}.{found['layer']}.{parts[found['part']]}.weight"
    return OUTSIDE.get(name, name)


def _field(reader: Any, key: str) -> Any:
    """A string or number of the file's metadata, or None."""
    field = reader.fields.get(key)
    if field is None:
        return None
    value = field.parts[field.data[-1]]
    if value.dtype == np.uint8:
        return bytes(value).decode("utf-8")
    return float(value[0]) if np.issubdtype(value.dtype, np.floating) else int(value[0])
