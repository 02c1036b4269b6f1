"""How many triplets of each update are kept: by number, by energy, by error, or out of one budget of parameters."""

from collections.abc import Sequence
from dataclasses import dataclass

from spectra.errors import SpectrumError
from spectra.linalg.truncation import RankRule, fixed_rank, rank_of_energy, rank_of_error


@dataclass(frozen=True)
class RankChoice:
    """One way to choose ranks; exactly one of the fields is given.

    Attributes:
        rank: The same for every matrix.
        energy: The smallest rank that keeps this share of ||delta_W||_F^2, in (0, 1].
        error: The smallest rank that leaves out singular values of at most this share of the largest one, in (0, 1).
        parameters: Numbers in all factors together; triplets go where they lower the sum of squared errors most.
    """

    rank: int | None = None
    energy: float | None = None
    error: float | None = None
    parameters: int | None = None

    def __post_init__(self) -> None:
        """Refuse what has no meaning.

        Raises:
            SpectrumError: With the values.
        """
        given = [name for name, value in vars(self).items() if value is not None]
        if len(given) != 1:
            raise SpectrumError(
                f"{len(given)} ways to choose ranks were given ({', '.join(given) or 'none'}). "
                "Give one of rank, energy, error and parameters."
            )
        if self.rank is not None and self.rank < 1:
            raise SpectrumError(f"The rank is {self.rank}, but a matrix needs at least 1. Use for instance 16.")
        if self.energy is not None and not 0 < self.energy <= 1:
            raise SpectrumError(f"The energy is {self.energy}, but it is a share in (0, 1]. Use for instance 0.95.")
        if self.error is not None and not 0 < self.error < 1:
            raise SpectrumError(f"The error is {self.error}, but it is a share in (0, 1). Use for instance 0.01.")
        if self.parameters is not None and self.parameters < 1:
            raise SpectrumError(f"The budget is {self.parameters} parameters. Use for instance 1000000.")

    def rule(self) -> RankRule:
        """The rule for one matrix; a budget is no rule for one matrix."""
        if self.rank is not None:
            return fixed_rank(self.rank)
        if self.energy is not None:
            return rank_of_energy(self.energy)
        if self.error is not None:
            return rank_of_error(self.error)
        raise ValueError("a budget is spread over all matrices")

    def require_within(self, shapes: Sequence[tuple[str, tuple[int, int]]]) -> None:
        """Refuse a rank above a matrix's smaller dimension, and a budget below one triplet.

        Raises:
            SpectrumError: With the matrix.
        """
        for name, shape in shapes:
            if self.rank is not None and self.rank > min(shape):
                raise SpectrumError(
                    f"Rank {self.rank} exceeds the smaller dimension of '{name}', which is {shape[0]} x {shape[1]}. "
                    f"Choose at most {min(shape)}, or leave it out with exclude."
                )
        least = min(sum(shape) for _, shape in shapes)
        if self.parameters is not None and self.parameters < least:
            raise SpectrumError(
                f"{self.parameters} parameters are fewer than one triplet of the smallest matrix takes ({least}). "
                "Allow more."
            )

    def words(self) -> str:
        """The choice in words."""
        if self.rank is not None:
            return f"rank {self.rank}"
        if self.energy is not None:
            return f"{100 * self.energy:g} % of each update's energy"
        if self.error is not None:
            return f"singular values above {self.error:g} of the largest"
        return f"at most {self.parameters:,} numbers in all"
