"""Modules of an adapter that cannot be compared: refused only where they are selected."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from spectra.errors import AdapterError, CheckpointError
from spectra.records.selection import Selection
from spectra.records.verdicts import Skipped
from spectra.weights.matching.catalogue import Catalogue
from spectra.weights.matching.names import canonical_names
from spectra.weights.matching.selection import reason_to_skip


@dataclass(frozen=True, eq=False)
class Problem:
    """A module that the adapter changes and that cannot be compared.

    Attributes:
        module: Its name in the base, or in the adapter when the base has none.
        reason: Why, for the list of what is not compared.
        error: What is raised when the module is selected.
    """

    module: str
    reason: str
    error: CheckpointError


class MisfitError(AdapterError):
    """A module of an adapter does not fit the base."""

    def __init__(self, message: str, reason: str, module: str | None = None) -> None:
        """Say it.

        Args:
            message: What is raised.
            reason: The same in a few words, for the list of what is not compared.
            module: The base's name of the module, where the base has it.
        """
        super().__init__(message)
        self.reason = reason
        self.module = module


@dataclass(eq=False)
class Findings:
    """What matching an adapter with its base found beside matches.

    Attributes:
        problems: Modules that cannot be compared.
        known: Better reasons than the usual ones for modules that are not compared by default.
    """

    problems: list[Problem] = field(default_factory=list)
    known: dict[str, str] = field(default_factory=dict)


def settle(problems: Sequence[Problem], book: Catalogue, chosen: Selection) -> tuple[list[Skipped], Mapping[str, str]]:
    """Hear the selection: raise the first problem that it selects, and list the others.

    Args:
        problems: What cannot be compared.
        book: The base.
        chosen: The selection.

    Returns:
        Modules that the base does not have, set aside with the reason; and better reasons for modules that it has.

    Raises:
        CheckpointError: If a module with a problem is selected.
    """
    if not problems:
        return [], {}
    names = canonical_names(list(dict.fromkeys([*book.matrices, *(problem.module for problem in problems)])))
    apart, known = [], {}
    for problem in problems:
        name = names[problem.module]
        skipped = reason_to_skip(chosen, name, has_blocks=book.has_blocks)
        if skipped is None:
            raise problem.error
        reason = f"{problem.reason}; {skipped}"
        if problem.module in book.matrices:
            known[problem.module] = reason
        else:
            apart.append(Skipped(name.canonical, reason))
    return apart, known


def resized(trained: int, stored: int) -> str:
    """Why a matrix whose vocabulary was resized is not compared by default."""
    return (
        f"trained for {trained} tokens, and the base has {stored}; name it with --include to compare the "
        f"{min(trained, stored)} common rows"
    )
