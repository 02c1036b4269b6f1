"""Labels as numbers: which name has which position, and in what order a head's outputs stand."""

import re
from collections.abc import Iterable, Mapping, Sequence

from spectra.errors import DataError, first_five

WHOLE = re.compile(r"-?\d+")


def names_of(labels: Iterable[str]) -> tuple[str, ...]:
    """Distinct labels: whole numbers in numerical order, names in alphabetical order."""
    found = set(labels)
    numeric = all(WHOLE.fullmatch(label) for label in found)
    return tuple(sorted(found, key=int) if numeric else sorted(found))


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
