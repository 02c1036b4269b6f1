"""Take fused matrices apart: which rows of a fused qkv (or gate_up) matrix are the queries, keys and values.

A matrix is cut only where the configuration of its own tower says how many heads share it; everything else stays
whole, and is named.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

Ranges = tuple[tuple[int, int], ...]

# Queries, keys and values one after the other, in equal thirds or with fewer key and value heads.
IN_A_ROW = {"c_attn", "qkv_proj", "qkv", "Wqkv", "W_pack", "in_proj_weight", "c_attn_qkv"}
FUSED = IN_A_ROW | {"gate_up_proj", "query_key_value", "wqkv", "qkv_linear"}

# Families that lay them out head by head: q, k, v of head 0, then q, k, v of head 1, and so on.
BY_HEAD = {"bloom", "gpt_neox", "gpt_neox_japanese", "persimmon", "fuyu"}

# Families whose fused matrix is none of the layouts below.
OTHERWISE = {"codegen", "minimax", "gptj"}

# A tower of a multimodal model, by the words in the name of its modules, and its section of the configuration.
TOWERS = (
    (re.compile(r"(^|[._])(visual|vision|vit|image|img)", re.IGNORECASE), ("vision_config", "visual", "vit_config")),
    (re.compile(r"(^|[._])(audio|speech)", re.IGNORECASE), ("audio_config", "speech_config")),
    (re.compile(r"(^|[._])(qformer)", re.IGNORECASE), ("qformer_config",)),
    (re.compile(r"(^|\.)encoder\.", re.IGNORECASE), ("encoder",)),
    (re.compile(r"(^|\.)decoder\.", re.IGNORECASE), ("decoder",)),
)
TEXT = ("text_config", "llm_config", "language_config", "thinker_config")
HEADS = ("num_attention_heads", "num_heads", "n_head", "n_heads", "num_query_heads")
WIDTHS = ("embed_dim", "hidden_size", "n_embd", "d_model", "dim")
KV_HEADS = ("num_key_value_heads", "num_kv_heads", "kv_n_heads", "n_head_kv", "multi_query_group_num")


def is_fused(module: str) -> bool:
    """True for the name of a matrix that --split-fused takes apart where it knows how."""
    return module.rpartition(".")[2] in FUSED


def parts_of(
    module: str, shape: tuple[int, int], config: Mapping[str, Any], *, alternating: bool | None = False
) -> Mapping[str, Ranges] | None:
    """The rows of each part of a fused matrix.

    Args:
        module: Name of the matrix.
        shape: (d_out, d_in).
        config: The model's config.json.
        alternating: True where rows of gate and up alternate, None where nobody knows.

    Returns:
        Ranges of rows by part, such as {"q": ((0, 64),), ...}; None when the matrix is not fused, or its layout is
        not known.
    """
    role = module.rpartition(".")[2]
    d_out = shape[0]
    if role == "gate_up_proj":
        if alternating is not False:
            return None
        return {"gate": ((0, d_out // 2),), "up": ((d_out // 2, d_out),)}
    if role == "c_attn" and "crossattention" in module:
        return {"k": ((0, d_out // 2),), "v": ((d_out // 2, d_out),)}
    if role == "in_proj_weight":  # torch's own attention layer: one shape for all three
        return _thirds(d_out) if d_out == 3 * shape[1] else None
    tower = _tower(module, config)
    model_type = _first(tower, ("model_type",))
    if model_type in OTHERWISE:
        return None
    if role == "query_key_value":
        return _query_key_value(d_out, model_type, tower)
    if role not in IN_A_ROW:
        return None
    if model_type == "gpt_bigcode":
        return _gpt_bigcode(d_out, tower)
    return _in_a_row(shape, tower, module)


def _tower(module: str, config: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The sections of a configuration that speak of the tower a module stands in, the nearest first."""
    for words, sections in TOWERS:
        if words.search(module):
            found = [config[section] for section in sections if isinstance(config.get(section), Mapping)]
            if found:
                return found
            if sections[0] in ("vision_config", "audio_config") and any(key in config for key in TEXT):
                return ()
    inner = [section for key in TEXT if isinstance(section := config.get(key), Mapping)]
    deeper = [section for found in inner for key in TEXT if isinstance(section := found.get(key), Mapping)]
    return [*deeper, *inner, config] if config else ()


def _first(tower: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> Any:
    """The first value under some keys, in a section or in its section on attention."""
    for section in tower:
        for place in (section, section.get("attn_config")):
            if isinstance(place, Mapping):
                for key in keys:
                    if place.get(key) not in (None, ""):
                        return place[key]
    return None


def _heads(tower: Sequence[Mapping[str, Any]], keys: Sequence[str], module: str) -> int | None:
    """A number of heads, of the module's own layer where every layer has its own."""
    value = _first(tower, keys)
    if isinstance(value, list):
        layer = next((int(part) for part in module.split(".") if part.isdigit()), None)
        value = value[layer] if layer is not None and layer < len(value) else None
    return value if type(value) is int and value > 0 else None


def _in_a_row(shape: tuple[int, int], tower: Sequence[Mapping[str, Any]], module: str) -> Mapping[str, Ranges] | None:
    d_out, d_in = shape
    heads, kv_heads = _heads(tower, HEADS, module), _heads(tower, KV_HEADS, module)
    if heads is None:
        return None
    head_dim = _first(tower, ("head_dim", "kv_channels"))
    if kv_heads is None and (
        _first(tower, ("attn_type",)) == "multiquery_attention" or _first(tower, ("multi_query",)) is True
    ):
        kv_heads = 1
    if kv_heads is None:
        # As many keys as queries; only three times the tower's own width is in keeping with that.
        widths = [d_in, *(_first(tower, (key,)) for key in WIDTHS), heads * head_dim if type(head_dim) is int else 0]
        return _thirds(d_out) if any(type(width) is int and d_out == 3 * width for width in widths) else None
    if d_out % (heads + 2 * kv_heads) or (type(head_dim) is int and d_out != (heads + 2 * kv_heads) * head_dim):
        return None
    head_dim = d_out // (heads + 2 * kv_heads)
    return _consecutive(heads * head_dim, kv_heads * head_dim)


def _consecutive(q: int, kv: int) -> Mapping[str, Ranges]:
    return {"q": ((0, q),), "k": ((q, q + kv),), "v": ((q + kv, q + 2 * kv),)}


def _thirds(d_out: int) -> Mapping[str, Ranges]:
    return _consecutive(d_out // 3, d_out // 3)


def _gpt_bigcode(d_out: int, tower: Sequence[Mapping[str, Any]]) -> Mapping[str, Ranges] | None:
    """One shared key and value after the queries; without sharing, head by head."""
    heads = _heads(tower, HEADS, "")
    if heads is None:
        return None
    if _first(tower, ("multi_query",)) is False:
        return _by_group(d_out, heads, 1)
    head_dim = d_out // (heads + 2)
    return None if d_out % (heads + 2) else _consecutive(heads * head_dim, head_dim)


def _query_key_value(d_out: int, model_type: str, tower: Sequence[Mapping[str, Any]]) -> Mapping[str, Ranges] | None:
    heads = _heads(tower, HEADS, "")
    if model_type in BY_HEAD:
        return _by_group(d_out, heads, 1)
    return _falcon(d_out, tower, heads) if model_type == "falcon" else None


def _falcon(d_out: int, tower: Sequence[Mapping[str, Any]], heads: int | None) -> Mapping[str, Ranges] | None:
    """Falcon's three layouts: grouped heads (40B, 180B), one shared key and value (7B), head by head (RW)."""
    if heads is None:
        return None
    if _first(tower, ("new_decoder_architecture",)):
        kv_heads = _heads(tower, KV_HEADS, "") or heads
        return _by_group(d_out, kv_heads, heads // kv_heads)
    if _first(tower, ("multi_query",)) is False:
        return _by_group(d_out, heads, 1)
    return None if d_out % (heads + 2) else _consecutive(d_out // (heads + 2) * heads, d_out // (heads + 2))


def _by_group(d_out: int, groups: int | None, queries: int) -> Mapping[str, Ranges] | None:
    """Groups of `queries` query heads followed by one key and one value head."""
    if not groups or d_out % (groups * (queries + 2)):
        return None
    head_dim = d_out // (groups * (queries + 2))
    size = head_dim * (queries + 2)
    starts = [group * size for group in range(groups)]
    k, v = queries * head_dim, (queries + 1) * head_dim
    return {
        "q": tuple((start, start + k) for start in starts),
        "k": tuple((start + k, start + v) for start in starts),
        "v": tuple((start + v, start + size) for start in starts),
    }
