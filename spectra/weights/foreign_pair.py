"""An adapter that peft did not save, beside its base."""

from dataclasses import replace

from spectra.errors import AdapterError, first_five
from spectra.records.selection import Selection
from spectra.records.verdicts import Skipped
from spectra.weights.adapter_pair import Sources
from spectra.weights.dialects.foreign import ForeignAdapter, NamedChange
from spectra.weights.dialects.ldm_names import diffusers_names, flattened_diffusers_name, inner_name
from spectra.weights.formats.stored import StoredMatrix
from spectra.weights.full_pair import coverage_warnings
from spectra.weights.matching.alignment import Alignment
from spectra.weights.matching.catalogue import Catalogue
from spectra.weights.matching.matching import Match, assemble
from spectra.weights.matching.native import in_order, is_native, renamed
from spectra.weights.matching.tied import tied_heads
from spectra.weights.methods.changes import Change, LoraChange, Replaced
from spectra.weights.methods.problems import Problem, settle
from spectra.weights.pair import CheckpointPair
from spectra.weights.streams.opened import shown_name


def open_foreign_pair(adapter: ForeignAdapter, tuned: str, sources: Sources, chosen: Selection) -> CheckpointPair:
    """Match an adapter that peft did not save with its base.

    Raises:
        AdapterError: If it names no base, or a selected module of it has no matrix in the base.
        CheckpointError: If the base cannot be read.
    """
    named = sources.named(adapter.base, adapter.path)
    if named is None:
        raise AdapterError(
            f"'{adapter.path}' ({adapter.dialect}) does not say what it was trained from. Name it with --base."
        )
    book = sources.catalogue(named, sources.base_revision)
    names = Names(book)
    matches: list[Match] = []
    problems: list[Problem] = []
    strangers: dict[str, list[NamedChange]] = {}
    known_components: set[str] = set()
    for change in adapter.changes:
        found = names.find(change)
        if found is None:
            strangers.setdefault(change.component, []).append(change)
            continue
        known_components.add(change.component)
        module, W0 = found
        if W0.shape == change.shape:
            matches.append(Match(module, W0, _in_order(change, book)))
        else:
            problems.append(_misfit(adapter, change, module, W0))
    if not known_components:
        wanted = first_five([f"'{change.module}'" for change in adapter.changes[:2]])
        present = first_five([f"'{module}'" for module in list(book.matrices)[:2]]) or "no matrix"
        raise AdapterError(
            f"No module of '{adapter.path}' ({adapter.dialect}), such as {wanted}, is in '{named}', which has "
            f"{present}. Give the component that it was trained on."
        )
    apart = []
    for component, changes in strangers.items():
        if component not in known_components:
            reason = f"trained for the {component or 'rest'}, which the base does not hold"
            apart += [Skipped(f"{component}.{change.module}".lstrip("."), reason) for change in changes]
        else:
            problems += [_missing(adapter, change, str(named)) for change in changes]
    set_aside, known = settle(problems, book, chosen)
    whole, unmatched = _whole(adapter, names)
    assembly = assemble(book, [*matches, *whole], chosen, untouched="not changed by this adapter", known=known)
    return CheckpointPair(
        shown_name(named),
        tuned,
        "adapter",
        adapter.method,
        assembly.matrices,
        (*assembly.skipped, *set_aside, *apart, *unmatched),
        (*coverage_warnings(assembly.coverage), *book.checkpoint.warnings, *assembly.warnings),
        trained_parameters=sum(change.change.parameters for change in adapter.changes),
        nbytes=adapter.nbytes,
        coverage=assembly.coverage,
    )


class Names:
    """Finds the base's matrix for a module of an adapter, whatever the adapter calls it."""

    def __init__(self, book: Catalogue) -> None:
        """Index the base's modules under every name that an adapter may use.

        Args:
            book: The base.
        """
        self._book = book
        self._aligned = Alignment(book.matrices, tied=tied_heads(book))
        self._dotted: dict[str, str] = {}
        self._flat: dict[str, set[str]] = {}
        inner = {module: inner_name(module)[0] for module in book.matrices}
        new = diffusers_names(inner.values())
        for module, name in inner.items():
            native = renamed(module)
            for spelling in {module, name, new.get(name, name), native.module if native else name}:
                self._dotted.setdefault(spelling, module)
                self._flat.setdefault(spelling.replace(".", "_"), set()).add(module)

    def find(self, change: NamedChange) -> tuple[str, StoredMatrix] | None:
        """The base's module and matrix, or None when it has none under any of these names.

        Raises:
            CheckpointError: If several modules of the base fit equally well.
        """
        if change.flattened:
            found = self._flat.get(change.module) or self._flat.get(
                flattened_diffusers_name(change.module) or "", set()
            )
            if len(found) > 1:
                raise AdapterError(
                    f"'{change.module}' may be any of {first_five(sorted(found))} of the base. "
                    "Name the one component of the base that is meant."
                )
            module = next(iter(found), None)
        else:
            module = self._dotted.get(change.module)
            if module is None:
                return self._aligned.matrix(change.module)
        return None if module is None else (module, self._book.matrices[module])


def _in_order(change: NamedChange, book: Catalogue) -> Change:
    """The change with its rows as the base orders them."""
    if not change.interleaved or not isinstance(change.change, LoraChange) or is_native(book.checkpoint.tensors):
        return change.change
    block = change.change.B.blocks[0]
    B = StoredMatrix.of(in_order(block.tensor, change.interleaved, book.checkpoint.config), transposed=block.transposed)
    return replace(change.change, B=B)


def _whole(adapter: ForeignAdapter, names: Names) -> tuple[list[Match], list[Skipped]]:
    """Matrices that the adapter saved whole, and what of it is no matrix."""
    matches, skipped = [], []
    for name, tensor in (adapter.whole or {}).items():
        saved = Replaced(StoredMatrix.of(tensor)) if len(tensor.shape) == 2 else None
        found = None
        if saved is not None:
            found = names.find(NamedChange(name.removesuffix(".weight"), saved, saved.W_tuned.shape))
        if saved is not None and found is not None and found[1].shape == tensor.shape:
            matches.append(Match(*found, saved))
        else:
            skipped.append(Skipped(name, "saved whole by the adapter, with no matrix of its own in the base"))
    return matches, skipped


def _misfit(adapter: ForeignAdapter, change: NamedChange, module: str, W0: StoredMatrix) -> Problem:
    return Problem(
        module,
        f"the adapter updates a {change.shape} matrix, and the base's is {W0.shape}",
        AdapterError(
            f"'{change.module}' in '{adapter.path}' updates a {change.shape} matrix, and the base's is {W0.shape} "
            f"({W0.source}). Give the base that it was trained on."
        ),
    )


def _missing(adapter: ForeignAdapter, change: NamedChange, base: str) -> Problem:
    return Problem(
        change.module,
        "not in the base",
        AdapterError(
            f"'{adapter.path}' changes '{change.module}', and '{base}' has no matrix of that name or a known other. "
            "Give the base that it was trained on, or leave the module out with --exclude."
        ),
    )
