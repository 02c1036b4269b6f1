"""Canonical names: layer, role and block of a matrix, whatever the family calls it.

`model.layers.3.self_attn.q_proj.weight` and `base_model.model.model.layers.3.self_attn.q_proj` are both
`layers.3.self_attn.q_proj`: layer 3, role `q_proj`, block `attention`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Block = Literal["attention", "mlp", "expert", "other"]

# Wrappers that say nothing about where a matrix stands: peft's, the trainer's, and the "body" of a model with a head.
WRAPPERS = {"base_model", "model", "transformer"}

# Wrappers that trainers put anywhere into a name: torch.compile, FSDP, activation checkpointing, DDP, Lightning Fabric.
INSIDE = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module", "module"}

# Lists of blocks. The first number after one of these is the layer.
CONTAINERS = {"layers", "layer", "h", "block", "blocks", "stages", "resblocks", "albert_layers"}

# Parts of a name that tell one stack of blocks from another and therefore stay.
STACKS = {"encoder", "decoder"}

EMBEDDING = re.compile(
    r"embed|(^|\.)(wte|wpe|shared|relative_attention_bias|position_ids)(\.|$)|rotary|codebook", re.IGNORECASE
)

# The blocks of image and video models, whose numbers say no depth: all of them count as inside.
DIFFUSION_BLOCKS = re.compile(
    r"(^|\.)(down_blocks|mid_block|up_blocks|input_blocks|middle_block|output_blocks|transformer_blocks"
    r"|single_transformer_blocks|double_blocks|single_blocks|joint_blocks)(\.|$)"
)

ATTENTION = re.compile(r"attn|attention|(^|\.)(qkv|query_key_value|in_proj_weight)(\.|$)", re.IGNORECASE)
EXPERT = re.compile(r"(^|\.)(experts|shared_expert|shared_experts|expert)(\.|$)")
MLP = re.compile(
    r"mlp|ffn|feed_forward|feedforward|densereludense|intermediate|(^|\.)(fc\d|lin\d|wi|wo|output\.dense|up_proj|gate_proj|down_proj|gate_up_proj)(\.|$)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class MatrixName:
    """Where a matrix stands.

    Attributes:
        canonical: Name without wrappers and without ".weight".
        layer: Index of the block, or None outside the blocks.
        role: The shortest end of the name that tells it from the other matrices of a block, such as "q_proj".
        block: What kind of layer it belongs to.
    """

    canonical: str
    layer: int | None
    role: str
    block: Block

    def __str__(self) -> str:
        return self.canonical


def without_wrappers(tensor_name: str) -> str:
    """A tensor's name without the wrappers that trainers put anywhere into it."""
    parts = tensor_name.split(".")
    return tensor_name if INSIDE.isdisjoint(parts) else ".".join(part for part in parts if part not in INSIDE)


def module_of(tensor_name: str) -> str:
    """The module that owns a weight: the tensor's name without trainers' wrappers and without ".weight"."""
    return without_wrappers(tensor_name).removesuffix(".weight")


def unwrapped(module: str) -> str:
    """A module name without trainers' wrappers, and without the wrappers that stand before its first block."""
    parts = without_wrappers(module).split(".")
    first = next((place for place, part in enumerate(parts) if part in CONTAINERS or part in STACKS), len(parts) - 1)
    return ".".join([part for part in parts[:first] if part not in WRAPPERS] + parts[first:])


def before_blocks(module: str) -> str | None:
    """The prefix of a module in a list of blocks: "bert." in "bert.encoder.layer.0.output.dense"; None beside them."""
    parts = module.split(".")
    if layer_of(module) is None:
        return None
    first = next(place for place, part in enumerate(parts) if part in CONTAINERS or part in STACKS)
    return "".join(f"{part}." for part in parts[:first])


def layer_of(module: str) -> int | None:
    """The index after the first list of blocks: 3 in "encoder.block.3.layer.0.SelfAttention.q"."""
    parts = module.split(".")
    for container, index in pairwise(parts):
        if container in CONTAINERS and index.isdigit():
            return int(index)
    return None


def inside_block(module: str) -> str:
    """The path inside its block without numbers: "mlp.experts.w1" in "layers.0.mlp.experts.3.w1"."""
    parts = module.split(".")
    for place, (container, index) in enumerate(pairwise(parts)):
        if container in CONTAINERS and index.isdigit():
            parts = parts[place + 2 :]
            break
    # T5 numbers the sub-layers of a block ("layer.1.DenseReluDense"): neither word nor number says what it is.
    kept = [
        part
        for part, following in zip(parts, [*parts[1:], ""], strict=True)
        if not part.isdigit() and not (part in CONTAINERS and following.isdigit())
    ]
    return ".".join(kept) or module


def block_of(path: str) -> Block:
    """Attention, mlp or expert, by the words in the path inside the block."""
    if EXPERT.search(path):
        return "expert"
    if ATTENTION.search(path):
        return "attention"
    return "mlp" if MLP.search(path) else "other"


def shortest_ends(paths: Iterable[str]) -> Mapping[str, str]:
    """For each path, the shortest dotted end that no other path shares."""
    distinct = set(paths)
    seen: dict[str, set[str]] = {}
    for path in distinct:
        parts = path.split(".")
        for length in range(1, len(parts) + 1):
            seen.setdefault(".".join(parts[-length:]), set()).add(path)
    return {
        path: next(
            (
                end
                for length in range(1, len(path.split(".")))
                if len(seen[end := ".".join(path.split(".")[-length:])]) == 1
            ),
            path,
        )
        for path in distinct
    }


def canonical_names(modules: Sequence[str]) -> Mapping[str, MatrixName]:
    """Name all matrices of a checkpoint.

    The part before the blocks that all of them share, such as `bert` or `gpt_neox`, says nothing and goes.
    """
    short = {module: unwrapped(module) for module in modules}
    lead = _shared_lead([name for name in short.values() if layer_of(name) is not None])
    canonical = {module: name.removeprefix(lead) for module, name in short.items()}
    paths = {module: inside_block(name) for module, name in canonical.items()}
    roles = shortest_ends(path for module, path in paths.items() if layer_of(module) is not None)
    blocks = {path: block_of(path) for path in set(paths.values())}
    return {
        module: MatrixName(
            canonical[module],
            layer_of(canonical[module]),
            roles.get(paths[module], paths[module]),
            blocks[paths[module]],
        )
        for module in modules
    }


def _shared_lead(names: Sequence[str]) -> str:
    """The leading parts, before stacks and containers, that all names have in common, with the final dot."""
    leads = []
    for name in names:
        parts = name.split(".")
        first = next(place for place, part in enumerate(parts) if part in CONTAINERS or part in STACKS)
        leads.append(parts[:first])
    shared: list[str] = []
    for column in zip(*leads, strict=False):
        if len(set(column)) > 1:
            break
        shared.append(column[0])
    return "".join(f"{part}." for part in shared)
