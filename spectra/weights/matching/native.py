"""Checkpoints under the names of the model's own authors, beside one under transformers' names.

Meta and Mistral (`layers.0.attention.wq`), torchtune (`layers.0.attn.q_proj`) and litgpt (`transformer.h.0.attn.qkv`)
name the same matrices otherwise. Where only one of two checkpoints does, it is seen under the names of the other.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, arange, cat

from spectra.errors import CheckpointError
from spectra.weights.formats.checkpoint import Checkpoint
from spectra.weights.formats.rotary import Interleaved, ReorderedTensor, interleaved_rows
from spectra.weights.formats.stored import StoredTensor

LLAMA_PARTS = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
AUTHORS: Mapping[str, str] = {
    "attention.wq": "self_attn.q_proj",
    "attention.wk": "self_attn.k_proj",
    "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj",
    **{f"feed_forward.{part}": f"mlp.{name}" for part, name in LLAMA_PARTS.items()},
}
TORCHTUNE: Mapping[str, str] = {
    "attn.q_proj": "self_attn.q_proj",
    "attn.k_proj": "self_attn.k_proj",
    "attn.v_proj": "self_attn.v_proj",
    "attn.output_proj": "self_attn.o_proj",
    **{f"mlp.{part}": f"mlp.{name}" for part, name in LLAMA_PARTS.items()},
}
LITGPT: Mapping[str, str] = {
    "attn.proj": "self_attn.o_proj",
    "mlp.fc_1": "mlp.gate_proj",
    "mlp.fc_2": "mlp.up_proj",
    "mlp.proj": "mlp.down_proj",
}
OUTSIDE = {"tok_embeddings": "embed_tokens", "transformer.wte": "embed_tokens", "output": "lm_head"}
LAYER = re.compile(
    r"^(?P<lead>(.*\.)?)(?P<list>layers|transformer\.h)\.(?P<layer>\d+)\.(?P<path>.+?)(?P<tail>\.weight)?$"
)
LITGPT_FUSED = re.compile(r"^(.*\.)?transformer\.h\.\d+\.attn\.(qkv|attn)\.weight$")
MARKS = re.compile(r"(^|\.)layers\.\d+\.(attention\.wq|attn\.output_proj)\.")
HEADS = (("num_attention_heads", "n_heads", "n_head"), ("num_key_value_heads", "n_kv_heads", "n_query_groups"))


@dataclass(frozen=True)
class Renamed:
    """A module under transformers' name.

    Attributes:
        module: The name.
        interleaved: Whether its rows are queries or keys, which these authors order otherwise.
    """

    module: str
    interleaved: Interleaved = ""


def renamed(module: str) -> Renamed | None:
    """A module of Meta's, Mistral's, torchtune's or litgpt's naming under transformers' name; None when it is none."""
    found = LAYER.match(module)
    if found is None:
        end = next((name for name in OUTSIDE if module == name or module.endswith(f".{name}")), None)
        return None if end is None else Renamed(OUTSIDE[end])
    table = LITGPT if found["list"] == "transformer.h" else {**AUTHORS, **TORCHTUNE}
    path = table.get(found["path"])
    if path is None:
        return None
    order: Interleaved = ""
    if found["list"] == "layers":
        order = "queries" if path.endswith("q_proj") else "keys" if path.endswith("k_proj") else ""
    return Renamed(f"model.layers.{found['layer']}.{path}", order)


def is_native(names: Mapping[str, Any]) -> bool:
    """True when a checkpoint's names are those of a model's own authors."""
    return any(MARKS.search(name) or LITGPT_FUSED.match(name) for name in names)


def heads_of(which: Interleaved, *configs: Mapping[str, Any]) -> int | None:
    """How many heads the queries or the keys have, by the first configuration that says so."""
    for keys in (HEADS[1], HEADS[0]) if which == "keys" else (HEADS[0],):
        for config in configs:
            count = next((config[key] for key in keys if type(config.get(key)) is int), None)
            if count:
                return count
    return None


def in_order(tensor: StoredTensor, which: Interleaved, *configs: Mapping[str, Any]) -> StoredTensor:
    """A tensor with the rows of its queries or keys as transformers orders them.

    Raises:
        CheckpointError: If no configuration says how many heads there are, or the rows do not divide into them.
    """
    if not which:
        return tensor
    heads = heads_of(which, *configs)
    if heads is None or tensor.shape[0] % (2 * heads):
        raise CheckpointError(
            f"The rows of '{tensor.name}' in '{tensor.path}' are in the order of the model's authors, and the number "
            f"of heads that undoes it is {heads or 'not known'}. Put the base's config.json beside it."
        )
    return ReorderedTensor(tensor, interleaved_rows(tensor.shape[0], heads))


def under_names_of(other: Checkpoint, native: Checkpoint) -> Checkpoint:
    """A checkpoint under its authors' names, seen under transformers' names.

    Whether its queries and keys really lie in the authors' order is asked of the weights: a tuned matrix resembles
    its base row by row in one of the two orders only.

    Args:
        other: The checkpoint under transformers' names.
        native: The checkpoint under its authors' names.

    Raises:
        CheckpointError: If the number of heads is not known.
    """
    tensors: dict[str, StoredTensor] = {}
    by_end = {_end(name): tensor for name, tensor in other.tensors.items()}
    orders: set[bool] = set()
    for name, tensor in native.tensors.items():
        if LITGPT_FUSED.match(name):
            tensors |= dict(_litgpt_parts(name, tensor, other.config, native.config))
            continue
        found = renamed(name.removesuffix(".weight"))
        if found is None:
            tensors[name] = tensor
            continue
        full, twin = f"{found.module}.weight", by_end.get(_end(f"{found.module}.weight"))
        if found.interleaved and twin is not None and twin.shape == tensor.shape:
            reordered = in_order(tensor, found.interleaved, native.config, other.config)
            turned = _likeness(reordered, twin) >= _likeness(tensor, twin)
            orders.add(turned)
            tensor = reordered if turned else tensor
        tensors[full] = tensor
    told = ("the order of its authors" if order else "the order of transformers" for order in sorted(orders))
    told_order = f"; its queries and keys lie in {' and in '.join(told)}" if orders else ""
    warning = f"'{native.location}' has the names of the model's authors, not those of transformers{told_order}."
    return replace(native, tensors=tensors, config=other.config, warnings=(*native.warnings, warning))


def _end(name: str) -> str:
    found = LAYER.match(name)
    return f"{found['layer']}.{found['path']}" if found else name.rpartition("model.")[2]


def _likeness(one: StoredTensor, other: StoredTensor) -> float:
    """Cosine of the first rows, which hold two heads or more of any usual model."""
    rows = min(256, one.shape[0])
    a, b = (_flat(tensor.read_rows(0, rows)) for tensor in (one, other))
    return float(a @ b / (a.norm() * b.norm()).clamp_min(1e-30))


def _flat(rows: Tensor) -> Tensor:
    return rows.double().reshape(-1)


def _litgpt_parts(name: str, tensor: StoredTensor, *configs: Mapping[str, Any]) -> Iterator[tuple[str, StoredTensor]]:
    """Queries, keys and values out of litgpt's fused matrix: all queries first, or group by group in older files."""
    heads, groups = heads_of("queries", *configs), heads_of("keys", *configs)
    layer = LAYER.match(name)
    if heads is None or groups is None or layer is None or tensor.shape[0] % (heads + 2 * groups):
        raise CheckpointError(
            f"'{name}' in '{tensor.path}' is litgpt's fused matrix, and the number of heads that cuts it is not known. "
            "Convert the checkpoint with litgpt's convert_from_litgpt, or put the base's config.json beside it."
        )
    size = tensor.shape[0] // (heads + 2 * groups)
    queries = heads // groups
    lengths = {"q_proj": queries, "k_proj": 1, "v_proj": 1}
    rows, start = {}, 0
    fused_in_a_row = name.endswith(".attn.qkv.weight")
    for part, count in lengths.items():
        if fused_in_a_row:
            rows[part] = arange(start, start + count * groups * size)
            start += count * groups * size
        else:
            step = (queries + 2) * size
            rows[part] = cat(
                [arange(group * step + start, group * step + start + count * size) for group in range(groups)]
            )
            start += count * size
    for part, order in rows.items():
        yield f"model.layers.{layer['layer']}.self_attn.{part}.weight", SomeRows(tensor, order)


@dataclass(frozen=True, eq=False)
class SomeRows(ReorderedTensor):
    """Some rows of a tensor, as a tensor."""

    @property
    def shape(self) -> tuple[int, ...]:
        """As many rows as are taken."""
        return len(self.order), *self.stored.shape[1:]

    @property
    def nbytes(self) -> int:
        """The share of the stored tensor."""
        return self.stored.nbytes * len(self.order) // max(1, self.stored.shape[0])
