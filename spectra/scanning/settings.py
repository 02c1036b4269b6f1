"""What a scan is asked for, checked once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from spectra.engine.methods import NAMES
from spectra.errors import SpectrumError, first_five
from spectra.metrics.intruders import require_epsilon
from spectra.records.catalogue import GROUPS, VERDICTS_ALONE, choices
from spectra.records.verdicts import OneSide

# How verdicts are reached, and in which arithmetic.
Method = Literal["auto", "certified", "exact", "cached-basis"]
Arithmetic = Literal["float32", "float64"]
DTYPES = {"float32": torch.float32, "float64": torch.float64}
SIDES: dict[str, tuple[OneSide, ...]] = {"left": ("left",), "right": ("right",), "both": ("left", "right")}
EVERY_MATRIX = "every matrix"


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
        groups: What is measured beside the verdicts: groups of `records.GROUPS`, or `VERDICTS_ALONE`.
        seed: Seed of every simulated control and every estimate.
        draws: Simulations of each random control; storage rounding has one.
        exact: Compute every singular value of every matrix, instead of estimating sums over the spectra of large ones.
        keep_controls: Keep the verdicts on every control, vector by vector.
        pictured: Names of matrices whose leading cosines and spectra are kept for the report; `EVERY_MATRIX` for all.
        map_size: Leading vectors of each side in a kept map of cosines.
        expected: Tuned versions of each W0 that this scan and later ones with the same cache will judge; it decides
            whether one factorisation of W0 pays for itself.
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
    groups: tuple[str, ...] = VERDICTS_ALONE
    seed: int = 0
    draws: int = 1
    exact: bool = False
    keep_controls: bool = False
    pictured: tuple[str, ...] = ()
    map_size: int = 16
    expected: int = 1

    def __post_init__(self) -> None:
        """Refuse what has no meaning.

        Raises:
            SpectrumError: With the value and the remedy.
        """
        if self.k < 1:
            raise SpectrumError(f"k is {self.k}, but at least one leading vector is needed. Use for instance k = 10.")
        for value in self.all_epsilons:
            require_epsilon(value)
        _require_one_of("side", self.side, tuple(SIDES))
        _require_one_of("method", self.method, NAMES)
        _require_one_of("dtype", self.dtype, tuple(DTYPES))
        for group in self.groups:
            _require_one_of("The group of metrics", group, (*choices(), *VERDICTS_ALONE))
        if self.memory_bytes is not None and self.memory_bytes < 1 << 26:
            raise SpectrumError(f"A memory budget of {self.memory_bytes} bytes is below 64 MiB. Allow more.")
        if torch.device(self.device).type == "cuda" and not torch.cuda.is_available():
            raise SpectrumError(f"Device '{self.device}' was asked for, but torch sees no GPU. Use --device cpu.")
        if self.draws < 1:
            raise SpectrumError(f"draws is {self.draws}, but a control needs at least one. Use for instance 2.")
        if self.groups == ("nulls",):
            raise SpectrumError(
                "Controls alone were asked for. Add what they control, such as --metrics intruders,nulls."
            )

    @property
    def all_epsilons(self) -> tuple[float, ...]:
        """Every threshold to decide, increasing."""
        return tuple(sorted({self.epsilon, *self.epsilons}))

    @property
    def torch_dtype(self) -> torch.dtype:
        """The arithmetic."""
        return DTYPES[self.dtype]

    @property
    def sides(self) -> tuple[OneSide, ...]:
        """The sides asked for."""
        return SIDES[self.side]

    @property
    def wants_controls(self) -> bool:
        """True where controls are put in the place of the tuned matrix."""
        return self.keep_controls or "nulls" in self.groups

    @property
    def is_thread_safe(self) -> bool:
        """True where matrices may be scanned at once: on a CPU, without simulations and other packages' code."""
        simple = not self.wants_controls and "tails" not in self.groups
        return simple and torch.device(self.device).type == "cpu" and all(map(GROUPS.is_own, self.groups))

    def pictures(self, name: str) -> bool:
        """True where leading cosines and spectra of the matrix are kept."""
        return name in self.pictured or EVERY_MATRIX in self.pictured


def _require_one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise SpectrumError(f"{name} is '{value}'. Choose one of {first_five(allowed)}.")
