"""The matrices of a checkpoint: which tensors are linear maps, which way round, under which module."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from spectra.weights.formats.checkpoint import Checkpoint
from spectra.weights.formats.stored import StoredMatrix, StoredTensor
from spectra.weights.matching.names import EXPERT, layer_of, module_of

# Families that store a linear layer (d_in, d_out), as transformers' Conv1D does.
CONV1D_FAMILIES = {"gpt2", "openai-gpt", "decision_transformer", "imagegpt"}
CONV1D_MODULES = re.compile(r"(^|\.)(c_attn|c_proj|c_fc|q_attn)$")

# Families whose 3-D expert weights are (experts, d_in, d_out); everywhere else they are (experts, d_out, d_in).
TRANSPOSED_EXPERTS = {"gpt_oss", "llama4", "llama4_text", "aria", "aria_text", "openai_privacy_filter"}
EXPERT_PARAMETERS = re.compile(r"(^|\.)(gate_up_proj|gate_proj|up_proj|down_proj|w1|w2|w3)(\.weight)?$")


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The matrices of a checkpoint.

    Attributes:
        checkpoint: Where they come from.
        matrices: By module; expert e of a 3-D tensor `experts.down_proj` is `experts.e.down_proj`.
    """

    checkpoint: Checkpoint
    matrices: Mapping[str, StoredMatrix]

    @property
    def has_blocks(self) -> bool:
        """False for a model without numbered blocks."""
        return any(layer_of(module) is not None for module in self.matrices)


def catalogue(checkpoint: Checkpoint) -> Catalogue:
    """Find the matrices of a checkpoint."""
    conv1d = _uses_conv1d(checkpoint)
    found: dict[str, StoredMatrix] = {}
    for name, tensor in checkpoint.tensors.items():
        found.update(_matrices_of(checkpoint, name, tensor, conv1d=conv1d))
    return Catalogue(checkpoint, dict(sorted(found.items(), key=lambda item: natural_order(item[0]))))


def natural_order(module: str) -> tuple[tuple[int, int | str], ...]:
    """A key that puts layer 2 before layer 10."""
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in module.split("."))


def _matrices_of(
    checkpoint: Checkpoint, name: str, tensor: StoredTensor, *, conv1d: bool
) -> Iterator[tuple[str, StoredMatrix]]:
    """The matrices that one tensor holds: none, one, or one per expert."""
    module = module_of(name)
    if len(tensor.shape) < 2 or min(tensor.shape) == 0:
        return
    if len(tensor.shape) == 3 and EXPERT.search(name) and EXPERT_PARAMETERS.search(name):
        container, _, parameter = module.rpartition(".")
        transposed = checkpoint.model_type in TRANSPOSED_EXPERTS
        for expert in range(tensor.shape[0]):
            matrix = StoredMatrix.of(tensor, expert=expert, transposed=transposed)
            yield f"{container}.{expert}.{parameter}", matrix
    elif name.endswith("weight"):
        transposed = conv1d and len(tensor.shape) == 2 and CONV1D_MODULES.search(module) is not None
        yield module, StoredMatrix.of(tensor, transposed=transposed)


def _uses_conv1d(checkpoint: Checkpoint) -> bool:
    """By the family; without a config.json, by a fused c_attn that is wider than tall."""
    if checkpoint.model_type:
        return checkpoint.model_type in CONV1D_FAMILIES
    return any(
        name.endswith("c_attn.weight") and len(tensor.shape) == 2 and tensor.shape[1] == 3 * tensor.shape[0]
        for name, tensor in checkpoint.tensors.items()
    )
