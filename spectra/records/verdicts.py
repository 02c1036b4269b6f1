"""What the definition says of a tuned vector, and the small records that every scan shares.

They hold plain numbers and strings only, no tensors, so that the report and the command line can read them without
importing torch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

Side = Literal["left", "right", "both"]
OneSide = Literal["left", "right"]
Decision = Literal["leading vector", "certificate", "full factorisation"]


@dataclass(frozen=True)
class VectorVerdict:
    """What the definition says of one tuned singular vector.

    Attributes:
        index: Position by decreasing singular value, from 0.
        singular_value: The tuned singular value sigma_j.
        max_cosine: Largest |cos| to a pre-trained singular vector that was found: among all of them when
            `decided_by` is "full factorisation", and the lower bound otherwise.
        is_intruder: True when max|cos| < epsilon over all pre-trained vectors.
        lower: Proven lower bound of max|cos|.
        upper: Proven upper bound of max|cos|; `upper < e` is the verdict at every epsilon e that was asked for.
        decided_by: How the verdict was reached.
        ill_conditioned: True when the neighbouring singular value is too close for a single vector to be meaningful.
        side: Whether the vector is a left (d_out) or right (d_in) singular vector.
    """

    index: int
    singular_value: float
    max_cosine: float
    is_intruder: bool
    lower: float
    upper: float
    decided_by: Decision
    ill_conditioned: bool = False
    side: OneSide = "left"


@dataclass(frozen=True)
class Skipped:
    """A matrix that was not compared, and why."""

    name: str
    reason: str


def html_table(caption: str, headings: Sequence[str], rows: Iterable[Sequence[str]], notes: Sequence[str] = ()) -> str:
    """A small table of escaped text, without style or script."""
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    below = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}"
    )
