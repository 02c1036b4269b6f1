"""The arms of an intervention: the intruders and every control, each an edit of W_tuned that lambda scales.

An arm's edit of a matrix is  (lambda - 1) E  with a fixed low-rank E, or  (c(lambda) - 1) delta_W  with the factor c
that leaves the norm which the intruder arm leaves. So all arms are measured by the same code, and their norms are
known without forming a product.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from spectra.errors import SpectrumError, first_five
from spectra.interventions.controls import neighbours, random_directions, random_projections, stand_ins
from spectra.interventions.deltas import Delta, EditNorms, inner_product, times
from spectra.interventions.directions import scaled_directions
from spectra.interventions.subject import Subject
from spectra.linalg.operators import LowRankUpdate

INTRUDERS = "intruders"
UNIT = 2.0  # the lambda whose edit is E itself:  lambda - 1 = 1


@dataclass(frozen=True, eq=False)
class Scaled:
    """Some directions of some matrices, their singular values multiplied by lambda.

    Attributes:
        name: Of the arm.
        subject: The checkpoint.
        units: E by matrix.
    """

    name: str
    subject: Subject
    units: Mapping[str, LowRankUpdate]

    @property
    def matrices(self) -> int:
        """Matrices that it edits."""
        return len(self.units)

    @property
    def directions(self) -> int:
        """Directions that it scales in all of them."""
        return sum(unit.rank for unit in self.units.values())

    @cached_property
    def norms(self) -> Mapping[str, EditNorms]:
        """The norms by matrix."""
        return {
            name: EditNorms(
                self.subject.squared_norms[name],
                inner_product(self.subject.delta(name), unit),
                inner_product(unit, unit),
            )
            for name, unit in self.units.items()
        }

    def edits(self, lam: float) -> Mapping[str, Delta]:
        """(lambda - 1) E."""
        return {name: times(unit, lam - 1) for name, unit in self.units.items()}

    def edit_norm(self, lam: float) -> float:
        """|lambda - 1| times the norm of all E."""
        return abs(lam - 1) * math.sqrt(sum(norms.edit for norms in self.norms.values()))

    def update_norm(self, lam: float) -> float:
        """Of what is left of the update."""
        elsewhere = sum(value for name, value in self.subject.squared_norms.items() if name not in self.units)
        return math.sqrt(elsewhere + sum(norms.left(lam - 1) for norms in self.norms.values()))


@dataclass(frozen=True, eq=False)
class Shrink:
    """The whole update scaled down to the norm that the intruder arm leaves.

    Attributes:
        treated: The intruder arm.
        everywhere: False scales each treated matrix to its own norm; True scales every matrix of the checkpoint by
            one factor, so that the norm over all of them is matched.
    """

    treated: Scaled
    everywhere: bool

    @property
    def name(self) -> str:
        """What tables call it."""
        return "shrink-all" if self.everywhere else "shrink"

    @property
    def matrices(self) -> int:
        """Matrices that it edits."""
        return len(self._names)

    @property
    def directions(self) -> None:
        """It scales all of them."""
        return

    @property
    def _names(self) -> Sequence[str]:
        norms = self.treated.subject.squared_norms
        return [name for name, value in norms.items() if value > 0] if self.everywhere else list(self.treated.units)

    def factor(self, name: str, lam: float) -> float:
        """c of one matrix."""
        if self.everywhere:
            return self.treated.update_norm(lam) / math.sqrt(sum(self.treated.subject.squared_norms.values()))
        return self.treated.norms[name].shrink_factor(lam - 1)

    def edits(self, lam: float) -> Mapping[str, Delta]:
        """(c - 1) delta_W."""
        delta = self.treated.subject.delta
        return {name: times(delta(name), self.factor(name, lam) - 1) for name in self._names}

    def edit_norm(self, lam: float) -> float:
        """|c - 1| ||delta_W||, over all edited matrices."""
        squared = self.treated.subject.squared_norms
        return math.sqrt(sum((self.factor(name, lam) - 1) ** 2 * squared[name] for name in self._names))

    def update_norm(self, lam: float) -> float:
        """That of the intruder arm, by construction."""
        squared, edited = self.treated.subject.squared_norms, set(self._names)
        return math.sqrt(
            sum(value * (self.factor(name, lam) ** 2 if name in edited else 1) for name, value in squared.items())
        )


Arm = Scaled | Shrink


def _intruders(subject: Subject, seed: int) -> Mapping[str, LowRankUpdate]:
    return {
        name: scaled_directions(subject.triplets(name), positions, UNIT) for name, positions in subject.chosen.items()
    }


def _random(subject: Subject, seed: int) -> Mapping[str, LowRankUpdate]:
    return {
        name: random_projections(subject.tuned(name), len(positions), seed=seed + number)
        for number, (name, positions) in enumerate(subject.chosen.items())
    }


def _random_matched(subject: Subject, seed: int) -> Mapping[str, LowRankUpdate]:
    return {
        name: random_directions(subject.tuned(name), edit, seed=seed + number)
        for number, (name, edit) in enumerate(_intruders(subject, seed).items())
    }


def _neighbour(subject: Subject, seed: int) -> Mapping[str, LowRankUpdate]:
    return {
        name: scaled_directions(
            subject.triplets(name), neighbours(subject.spectra[name].side_vectors("left"), positions), UNIT
        )
        for name, positions in subject.chosen.items()
    }


def _stand_in(subject: Subject, seed: int) -> Mapping[str, LowRankUpdate]:
    names = stand_ins(subject.scan.matrices, list(subject.chosen), seed=seed)
    return {
        names[name]: scaled_directions(subject.triplets(names[name]), positions, UNIT)
        for name, positions in subject.chosen.items()
    }


UNITS: Mapping[str, Callable[[Subject, int], Mapping[str, LowRankUpdate]]] = {
    INTRUDERS: _intruders,
    "random": _random,
    "random-matched": _random_matched,
    "neighbour": _neighbour,
    "stand-in": _stand_in,
}
ControlName = Literal["shrink", "shrink-all", "random", "random-matched", "neighbour", "stand-in"]
CONTROLS: tuple[ControlName, ...] = get_args(ControlName)


def arms_of(subject: Subject, controls: Sequence[str], *, seed: int) -> tuple[list[Arm], dict[str, str]]:
    """The intruder arm and the controls that can be matched to it.

    Args:
        subject: The checkpoint.
        controls: Names among `CONTROLS`.
        seed: Of the random directions and matrices.

    Returns:
        The arms, the intruders first; and for each control that cannot be built, the reason.

    Raises:
        SpectrumError: If a control is unknown, or there is no intruder.
    """
    if unknown := [name for name in controls if name not in CONTROLS]:
        raise SpectrumError(f"There is no control {first_five(unknown)}. Choose among {', '.join(CONTROLS)}.")
    treated = Scaled(INTRUDERS, subject, _intruders(subject, seed))
    arms: list[Arm] = [treated]
    left_out: dict[str, str] = {}
    for name in dict.fromkeys(controls):
        if name in ("shrink", "shrink-all"):
            arms.append(Shrink(treated, everywhere=name == "shrink-all"))
            continue
        try:
            arms.append(Scaled(name, subject, UNITS[name](subject, seed)))
        except SpectrumError as error:
            left_out[name] = str(error)
    return arms, left_out
