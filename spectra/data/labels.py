"""Labels as numbers: which name has which position, and in what order a head's outputs stand."""

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from spectra.errors import DataError, first_five

WHOLE = re.compile(r"-?\d{1,18}")  # with more digits it is a name
AS_A_DATA_FRAME_WRITES = re.compile(r"([-+]?\d{1,18})(\.0*)?")


def as_label(text: str) -> str:
    """A label in one spelling: whole numbers as such, also where a data frame wrote them as 1.0; no space around it."""
    text = text.strip()
    number = AS_A_DATA_FRAME_WRITES.fullmatch(text)
    return str(int(number[1])) if number else text


def names_of(labels: Iterable[str], task: str) -> tuple[str, ...]:
    """Distinct labels: whole numbers in numerical order, names in alphabetical order.

    Raises:
        DataError: If some are whole numbers and others words: the same classes may be written in two ways.
    """
    found = set(labels)
    whole = {label for label in found if WHOLE.fullmatch(label)}
    if whole == found:
        return tuple(sorted(found, key=lambda label: int(label)))
    words = sorted(label for label in found if not _is_number(label))
    if whole and words:
        raise DataError(
            f"Task '{task}' has labels that are numbers ({first_five(sorted(whole))}) and labels that are "
            f"words ({first_five(words)}). Write every class in one way, or list all of them in `label_names`."
        )
    return tuple(sorted(found))


def look_alikes(names: Iterable[str]) -> list[str]:
    """Names that differ from another one in letter case, white space or the spelling of accents alone."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(" ".join(unicodedata.normalize("NFKC", name).split()).casefold(), []).append(name)
    return [name for group in alike.values() if len(group) > 1 for name in group]


def _is_number(label: str) -> bool:
    try:
        return math.isfinite(float(label))
    except ValueError:
        return False


def numbering(labels: set[str], names: Sequence[str], task: str) -> Mapping[str, int]:
    """The number of each label, by the given names.

    Labels are all names, or, where the names are no numbers themselves, all positions from 0. A mixture of the two
    is refused: a label that is both would be merged with another.

    Raises:
        DataError: If a label is neither.
    """
    by_name = {name: position for position, name in enumerate(names)}
    unknown = labels - set(by_name)
    if not unknown:
        return by_name
    by_position = {str(position): position for position in range(len(names))}
    if labels <= set(by_position) and not any(WHOLE.fullmatch(name) for name in names):
        return by_position
    raise DataError(
        f"Task '{task}' has labels that are not in `label_names` {list(names)}: {first_five(sorted(unknown))}. "
        "Name every label, in the words or numbers of the file."
    )


def order_in(head: Sequence[str], names: Sequence[str]) -> list[int] | None:
    """The output of a head that stands for each label of a task, or None where the two do not fit.

    Args:
        head: Names of the head's outputs; made-up names such as LABEL_0 say nothing.
        names: The task's labels; numbers say nothing about a head with names.

    Returns:
        Output number by label number. Where one side has no names, label i is output i.
    """
    if len(head) != len(names):
        return None
    positions = {name.casefold().strip(): output for output, name in enumerate(head)}
    wanted = [name.casefold().strip() for name in names]
    if len(positions) == len(head) and len(set(wanted)) == len(names) and set(wanted) == set(positions):
        return [positions[name] for name in wanted]
    unnamed = re.compile(r"(label[_ ]?)?\d+")
    if all(unnamed.fullmatch(name) for name in positions) or all(unnamed.fullmatch(name) for name in wanted):
        return list(range(len(names)))
    return None
