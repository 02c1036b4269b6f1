"""What a scan is asked for, checked once."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from spectra.engine.methods import NAMES
from spectra.errors import SpectrumError, first_five
from spectra.metrics.intruders import require_epsilon

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class ScanSettings:
    """The question and how it is answered.

    Attributes:
        k: Leading vectors per matrix.
        epsilon: Cosine below which a vector counts.
        epsilons: Further thresholds that the same scan decides.
        side: "left" (the paper), "right" or "both".
        method: One of `methods.NAMES`.
        dtype: "float32" or "float64" arithmetic.
        device: Where it is computed.
        memory_bytes: Budget of the scan; a W0 that does not fit is read block by block. None: no limit.
        dense_norms: Also the singular values of a dense delta_W (O(n^3); a low-rank update's are free).
    """

    k: int = 10
    epsilon: float = 0.5
    epsilons: tuple[float, ...] = ()
    side: str = "left"
    method: str = "auto"
    dtype: str = "float32"
    device: str = "cpu"
    memory_bytes: int | None = None
    dense_norms: bool = False

    def __post_init__(self) -> None:
        """Refuse what has no meaning.

        Raises:
            SpectrumError: With the value and the remedy.
        """
        if self.k < 1:
            raise SpectrumError(f"k is {self.k}, but at least one leading vector is needed. Use for instance k = 10.")
        for value in self.all_epsilons:
            require_epsilon(value)
        _require_one_of("side", self.side, ("left", "right", "both"))
        _require_one_of("method", self.method, NAMES)
        _require_one_of("dtype", self.dtype, tuple(DTYPES))
        if self.memory_bytes is not None and self.memory_bytes < 1 << 26:
            raise SpectrumError(f"A memory budget of {self.memory_bytes} bytes is below 64 MiB. Allow more.")
        if torch.device(self.device).type == "cuda" and not torch.cuda.is_available():
            raise SpectrumError(f"Device '{self.device}' was asked for, but torch sees no GPU. Use --device cpu.")

    @property
    def all_epsilons(self) -> tuple[float, ...]:
        """Every threshold to decide, increasing."""
        return tuple(sorted({self.epsilon, *self.epsilons}))

    @property
    def torch_dtype(self) -> torch.dtype:
        """The arithmetic."""
        return DTYPES[self.dtype]


def _require_one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise SpectrumError(f"{name} is '{value}'. Choose one of {first_five(allowed)}.")
