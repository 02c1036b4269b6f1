"""The matrices of a checkpoint: which tensors are linear maps, which way round, under which canonical name."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from spectra.weights.checkpoint import Checkpoint
from spectra.weights.names import MatrixName, canonical_names, module_of
from spectra.weights.stored import StoredMatrix, StoredTensor

# Families that store a linear layer (d_in, d_out), as transformers' Conv1D does.
CONV1D_FAMILIES = {"gpt2", "openai-gpt", "decision_transformer", "imagegpt"}
CONV1D_MODULES = re.compile(r"(^|\.)(c_attn|c_proj|c_fc|q_attn)$")


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The matrices of a checkpoint by module, and their names."""

    matrices: Mapping[str, StoredMatrix]
    names: Mapping[str, MatrixName]

    @property
    def has_blocks(self) -> bool:
        """False for a model without numbered blocks."""
        return any(name.layer is not None for name in self.names.values())


def catalogue(checkpoint: Checkpoint) -> Catalogue:
    """Find the matrices of a checkpoint."""
    matrices = {
        module_of(name): StoredMatrix.of(tensor, transposed=is_transposed(checkpoint, name, tensor))
        for name, tensor in checkpoint.tensors.items()
        if is_matrix(name, tensor)
    }
    return Catalogue(matrices, canonical_names(list(matrices)))


def is_matrix(name: str, tensor: StoredTensor) -> bool:
    """True for weights with rows and columns; a convolution counts with its trailing axes flattened."""
    return len(tensor.shape) >= 2 and name.endswith("weight") and min(tensor.shape) > 0


def is_transposed(checkpoint: Checkpoint, name: str, tensor: StoredTensor) -> bool:
    """True for weights stored (d_in, d_out)."""
    return (
        len(tensor.shape) == 2
        and checkpoint.model_type in CONV1D_FAMILIES
        and CONV1D_MODULES.search(module_of(name)) is not None
    )
