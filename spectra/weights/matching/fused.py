"""Take fused matrices apart: which rows of a fused qkv (or gate_up) matrix are the queries, keys and values."""

from collections.abc import Mapping
from typing import Any

Ranges = tuple[tuple[int, int], ...]

# Queries, keys and values one after the other, in equal thirds or with fewer key and value heads.
IN_A_ROW = {"c_attn", "qkv_proj", "qkv", "Wqkv", "W_pack", "in_proj_weight", "c_attn_qkv"}

# Families that lay them out head by head: q, k, v of head 0, then q, k, v of head 1, and so on.
BY_HEAD = {"bloom", "gpt_neox", "gpt_neox_japanese", "persimmon"}


def parts_of(module: str, d_out: int, config: Mapping[str, Any]) -> Mapping[str, Ranges] | None:
    """The rows of each part of a fused matrix.

    Args:
        module: Name of the matrix.
        d_out: Its rows.
        config: The model's config.json.

    Returns:
        Ranges of rows by part, such as {"q": ((0, 64),), ...}; None when the matrix is not fused, or its layout is
        not known.
    """
    role = module.rpartition(".")[2]
    model_type = config.get("model_type")
    if role == "gate_up_proj" and model_type not in ("gpt_oss", "openai_privacy_filter"):
        return {"gate": ((0, d_out // 2),), "up": ((d_out // 2, d_out),)}
    if role == "query_key_value":
        if model_type in BY_HEAD:
            return _by_group(d_out, _integer(config, "num_attention_heads", "n_head"), 1)
        return _falcon(d_out, config) if model_type == "falcon" else None
    if role == "c_attn" and "crossattention" in module:
        return {"k": ((0, d_out // 2),), "v": ((d_out // 2, d_out),)}
    if model_type in ("codegen", "minimax", "gpt_bigcode", "gptj"):
        return None
    return _in_a_row(d_out, config) if role in IN_A_ROW else None


def _integer(config: Mapping[str, Any], *keys: str) -> int | None:
    """The first of some keys that holds a positive integer, also in a text model's own section."""
    sections = [config, config.get("text_config")]
    for section in sections:
        for key in keys:
            value = section.get(key) if isinstance(section, Mapping) else None
            if isinstance(value, int) and value > 0:
                return value
    return None


def _in_a_row(d_out: int, config: Mapping[str, Any]) -> Mapping[str, Ranges] | None:
    heads = _integer(config, "num_attention_heads", "n_head", "n_heads")
    kv_heads = _integer(config, "num_key_value_heads") or heads
    if d_out % 3 == 0 and (heads is None or kv_heads == heads):
        third = d_out // 3
        return {"q": ((0, third),), "k": ((third, 2 * third),), "v": ((2 * third, d_out),)}
    if heads is None or kv_heads is None or d_out % (heads + 2 * kv_heads):
        return None
    head_dim = d_out // (heads + 2 * kv_heads)
    q, kv = heads * head_dim, kv_heads * head_dim
    return {"q": ((0, q),), "k": ((q, q + kv),), "v": ((q + kv, d_out),)}


def _falcon(d_out: int, config: Mapping[str, Any]) -> Mapping[str, Ranges] | None:
    """Falcon's three layouts: grouped heads (40B, 180B), one shared key and value (7B), head by head (RW)."""
    heads = _integer(config, "num_attention_heads", "n_head")
    if heads is None:
        return None
    if config.get("new_decoder_architecture"):
        kv_heads = _integer(config, "num_kv_heads") or heads
        return _by_group(d_out, kv_heads, heads // kv_heads)
    if config.get("multi_query", True):
        head_dim = d_out // (heads + 2)
        q = heads * head_dim
        return {"q": ((0, q),), "k": ((q, q + head_dim),), "v": ((q + head_dim, d_out),)}
    return _by_group(d_out, heads, 1)


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
