"""How much of a checkpoint a comparison covers: a matrix of the base's blocks is in exactly one of the numbers."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Coverage:
    """What became of the matrices of the blocks.

    Attributes:
        matrices: Matrices in the blocks of the base.
        compared: Those of them that are compared.
        unchanged: Those that the adapter does not change.
        unselected: Those that the selection leaves out.
        missing_in_checkpoint: Those that a full checkpoint lacks.
        missing_in_base: Matrices in the blocks of the checkpoint that the base lacks.
        unknown: Tensors of either side that may hold matrices and cannot be read as such.
        outside: Compared matrices that stand outside the blocks.
    """

    matrices: int = 0
    compared: int = 0
    unchanged: int = 0
    unselected: int = 0
    missing_in_checkpoint: int = 0
    missing_in_base: int = 0
    unknown: int = 0
    outside: int = 0

    @property
    def gaps(self) -> tuple[str, ...]:
        """What a reader has to know before the counts: parts that are absent, or cannot be read, on one side."""
        told = (
            (self.missing_in_checkpoint, "of the base are missing in the checkpoint"),
            (self.missing_in_base, "of the checkpoint are missing in the base"),
            (self.unknown, "hold parameters that cannot be read as matrices"),
        )
        return tuple(f"{count} {what}" for count, what in told if count)

    @property
    def sentence(self) -> str:
        """The numbers in one sentence, the zeros left out."""
        rest = (
            (self.unchanged, "not changed by the adapter"),
            (self.unselected, "not selected"),
            (self.missing_in_checkpoint, "missing in the checkpoint"),
            (self.missing_in_base, "missing in the base"),
            (self.unknown, "of unknown layout"),
            (self.outside, "compared outside the blocks"),
        )
        parts = [f"{self.compared} of {self.matrices} matrices of the blocks compared"]
        return "; ".join([*parts, *(f"{count} {what}" for count, what in rest if count)]) + "."

    @property
    def is_whole(self) -> bool:
        """Whether every matrix of the blocks, on both sides, is compared."""
        return self.compared == self.matrices and not self.gaps

    def to_dict(self) -> dict[str, int]:
        """The JSON object under "coverage"."""
        return asdict(self)

    @classmethod
    def of(cls, facts: Mapping[str, Any] | None) -> "Coverage | None":
        """The record that `to_dict` gave, or None for a result of before there was one."""
        return None if facts is None else cls(**facts)


def what_was_compared(coverage: Coverage | None, skipped: int) -> str:
    """The numbers of a result for the terminal, and where the reasons are; empty where nothing was left out."""
    if coverage is not None:
        return coverage.sentence + ("" if coverage.is_whole else " `spectra inspect` says why the others were not.")
    return f"{skipped} matrices were not compared (`spectra inspect` says why)." if skipped else ""
