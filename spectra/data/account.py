"""The row account of a task: of every split how many rows were read, how many are used, and why the others are not."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from spectra.errors import first_five

NOTABLE = 0.01  # a share of lost rows or cut texts that a reader is warned of

DUPLICATE = "repeated"
DISPUTED = "with conflicting labels"


@dataclass(frozen=True)
class SplitAccount:
    """What became of the rows of one split.  read = used + sum(dropped) + sum(set_aside)

    Attributes:
        split: "train", "validation" or "test".
        read: Rows that were read for it.
        used: Rows that are left.
        dropped: Rows that no split uses, by the reason.
        set_aside: Rows that were moved to another split, by its name.
        classes: Used rows by label; empty unless the task has classes.
        unseen: Labels of this split that no training row has.
    """

    split: str
    read: int
    used: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    set_aside: Mapping[str, int] = field(default_factory=dict)
    classes: Mapping[str, int] = field(default_factory=dict)
    unseen: tuple[str, ...] = ()

    def reasons(self) -> str:
        """Why rows were dropped, with their numbers, in words."""
        return ", ".join(f"{count} {reason}" for reason, count in self.dropped.items() if count)

    def warnings(self, task: str) -> list[str]:
        """Sentences about lost rows and labels that were never seen, where they matter."""
        said = []
        lost = sum(self.dropped.values())
        if self.read and lost > NOTABLE * self.read:
            said.append(
                f"Task '{task}': {lost} of {self.read} rows read for the {self.split} split "
                f"({lost / self.read:.1%}) are not used: {self.reasons()}."
            )
        if self.unseen:
            count = sum(self.classes[label] for label in self.unseen)
            said.append(
                f"Task '{task}': the {self.split} split has labels that no training row has: {first_five(self.unseen)} "
                f"({count} of {self.used} rows)."
            )
        return said

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def cut_warning(what: str, cut: int, of: int, lost_tokens: int, tokens: int, max_length: int) -> str | None:
    """A sentence about texts that were cut to `max_length` tokens, where they are more than a hundredth.

    Args:
        what: What was cut, such as "Task 'reviews', test split".
        cut: Texts that lost something.
        of: All texts.
        lost_tokens: Tokens that were cut away.
        tokens: All tokens before the cut.
        max_length: Where the cut was made.
    """
    if not of or cut <= NOTABLE * of:
        return None
    return (
        f"{what}: {cut} of {of} texts ({cut / of:.1%}) are longer than {max_length} tokens and were cut; "
        f"{lost_tokens / max(tokens, 1):.1%} of all tokens are lost."
    )
