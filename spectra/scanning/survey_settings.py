"""What a spectral scan is asked for, checked once."""

from dataclasses import dataclass, field

from spectra.errors import SpectrumError
from spectra.records import DEFAULT_GROUPS, chosen_groups
from spectra.scanning.settings import ScanSettings


@dataclass(frozen=True)
class SurveySettings:
    """The question and how it is answered.

    Attributes:
        scan: Leading vectors, threshold, sides, arithmetic, device and memory.
        groups: Groups of metrics, of `measures.GROUPS`.
        seed: Of every simulated control and every estimate.
        draws: Simulations of each random control; storage rounding has one.
        exact: Compute every singular value of every matrix, instead of estimating sums over the spectra of large ones.
    """

    scan: ScanSettings = field(default_factory=ScanSettings)
    groups: tuple[str, ...] = DEFAULT_GROUPS
    seed: int = 0
    draws: int = 1
    exact: bool = False

    def __post_init__(self) -> None:
        """Refuse what has no meaning.

        Raises:
            SpectrumError: With the value and the remedy.
        """
        chosen_groups(self.groups)
        if self.draws < 1:
            raise SpectrumError(f"draws is {self.draws}, but a control needs at least one. Use for instance 2.")
        if self.groups == ("nulls",):
            raise SpectrumError(
                "Controls alone were asked for. Add what they control, such as --metrics intruders,nulls."
            )
