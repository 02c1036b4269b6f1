"""The row account of a task: of every split how many rows were read, how many are used, and why the others are not."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from spectra.data.labels import look_alikes
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
        """Sentences about lost rows, labels that were never seen and labels that look alike, where they matter."""
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
        if alike := look_alikes(self.classes):
            said.append(
                f"Task '{task}': the {self.split} split has labels that differ in letter case, white space or the "
                f"spelling of accents alone, and are different classes here: {first_five(alike)}."
            )
        return said

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


@dataclass(frozen=True)
class Cut:
    """What was lost where texts are longer than a model is given.

    Attributes:
        max_length: Tokens that a text is cut to.
        texts: All texts.
        cut: Texts that lost something.
        tokens: Tokens of all texts before the cut.
        lost: Tokens that were cut away.
    """

    max_length: int
    texts: int
    cut: int
    tokens: int
    lost: int

    def warnings(self, what: str) -> list[str]:
        """A sentence, where more than a hundredth of the texts were cut.

        Args:
            what: What was cut, such as "Task 'reviews', test split".
        """
        if self.cut <= NOTABLE * self.texts:
            return []
        return [
            f"{what}: {self.cut} of {self.texts} texts ({self.cut / self.texts:.1%}) do not fit into "
            f"{self.max_length} tokens and were cut; {self.lost / max(self.tokens, 1):.1%} of all tokens are lost."
        ]


def cut_of(lengths: Sequence[int], kept: Sequence[int], max_length: int) -> Cut:
    """The account of texts by their lengths in tokens before and after the cut."""
    lost = [before - after for before, after in zip(lengths, kept, strict=True)]
    return Cut(max_length, len(lost), sum(one > 0 for one in lost), sum(lengths), sum(lost))
