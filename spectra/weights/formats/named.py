"""What every format comes to: named tensors, and what the file says about itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from spectra.weights.formats.stored import StoredTensor


@dataclass(frozen=True, eq=False)
class NamedTensors:
    """The content of one file.

    Attributes:
        tensors: By name as stored.
        metadata: Strings that the file carries beside the tensors.
        config: The model's configuration, where the file itself holds one; empty otherwise.
        dequantised: True when the tensors are reconstructions of quantised weights.
    """

    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    dequantised: bool = False
