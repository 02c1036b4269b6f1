"""Which directions are treated: a choice among the verdicts of a scan."""

from collections.abc import Sequence
from typing import Literal

from spectra.errors import SpectrumError, first_five
from spectra.records.verdicts import VectorVerdict

Select = Literal["top", "all", "energy"]
SELECTS: tuple[Select, ...] = ("top", "all", "energy")


def selected_directions(verdicts: Sequence[VectorVerdict], select: str, *, share: float = 0.9) -> tuple[int, ...]:
    """Positions of the singular vectors of one matrix that are treated.

    "top" is the highest-ranked intruder (the paper), "all" every intruder among the k (peft), "energy" the fewest
    highest-ranked intruders that hold at least `share` of the energy  sum_{j in I} S_j^2  of all intruders.

    Args:
        verdicts: What the scan says of the leading left vectors, by decreasing singular value.
        select: One of `SELECTS`.
        share: For "energy", in (0, 1].

    Returns:
        Indices by decreasing singular value; empty when there is no intruder.

    Raises:
        SpectrumError: If the selection is unknown or the share lies outside (0, 1].

    Source: Shuttleworth et al., arXiv:2410.21228, section 5 ("top").
        Difference: "all" and "energy" are not in the paper.
    """
    if select not in SELECTS:
        raise SpectrumError(f"The selection is '{select}'. Choose one of {first_five(SELECTS)}.")
    if not 0 < share <= 1:
        raise SpectrumError(f"The energy share is {share}, outside (0, 1]. Use for instance 0.9.")
    intruders = [verdict for verdict in verdicts if verdict.is_intruder]
    if select == "top":
        intruders = intruders[:1]
    elif select == "energy":
        intruders = _holding(intruders, share)
    return tuple(verdict.index for verdict in intruders)


def _holding(intruders: Sequence[VectorVerdict], share: float) -> list[VectorVerdict]:
    wanted = share * sum(verdict.singular_value**2 for verdict in intruders)
    held, found = 0.0, []
    for verdict in intruders:
        if held >= wanted:
            break
        held += verdict.singular_value**2
        found.append(verdict)
    return found
