"""An adapter beside its base."""

from dataclasses import dataclass, replace
from pathlib import Path

from spectra.errors import AdapterError
from spectra.records.selection import Selection
from spectra.weights.bases import wrong_base_warnings
from spectra.weights.formats.checkpoint import Checkpoint, open_checkpoint
from spectra.weights.formats.hub import locate
from spectra.weights.formats.stored import StoredMatrix
from spectra.weights.full_pair import coverage_warnings
from spectra.weights.matching.alignment import Alignment
from spectra.weights.matching.catalogue import Catalogue, catalogue
from spectra.weights.matching.matching import Match, assemble
from spectra.weights.matching.tied import tied_heads
from spectra.weights.methods.adapter import CONFIG, Adapter, find_adapter, open_adapter
from spectra.weights.methods.changes import Change, DoraChange
from spectra.weights.methods.lora import is_plain, lora_matches, unknown_modules
from spectra.weights.methods.mutated import OnMutatedBase, SubtractedAdapter, SubtractedInit, mutating_init
from spectra.weights.methods.others import peft_matches, saved_whole
from spectra.weights.methods.problems import Findings, settle
from spectra.weights.pair import CheckpointPair
from spectra.weights.streams.opened import shown_name
from spectra.weights.streams.places import is_address


@dataclass(frozen=True)
class Sources:
    """Where an adapter's parts lie, beside the adapter itself.

    Attributes:
        base: The original base; None takes the one that the configuration names.
        base_revision: Its revision on the hub.
        tuned_base: The base as the adapter's initialisation left it.
        initial_adapter: The adapter as it was saved before training.
        allow_pickle: Whether .bin files may be opened.
        stream: Whether what is not on this machine is read where it lies.
    """

    base: str | Path | None = None
    base_revision: str | None = None
    tuned_base: str | Path | None = None
    initial_adapter: str | Path | None = None
    allow_pickle: bool = False
    stream: bool = False

    @classmethod
    def of(cls, base: str | Path | None, selection: Selection) -> "Sources":
        """As a selection says."""
        return cls(
            base,
            selection.base_revision,
            selection.tuned_base,
            selection.initial_adapter,
            selection.allow_pickle,
            bool(selection.stream),
        )

    def named(self, by_adapter: str | None, adapter: Path) -> str | Path | None:
        """The base: the one that the caller named, else the one that an adapter names.

        Raises:
            AdapterError: If an adapter names an address: nothing is asked for because a file of others says so.
        """
        if self.base is None and by_adapter is not None and is_address(by_adapter):
            raise AdapterError(
                f"'{adapter}' names the address '{shown_name(by_adapter)}' as its base, which is not read because a "
                "file says so. Name it with --base if you trust it."
            )
        return self.base if self.base is not None else by_adapter

    def checkpoint(self, named: str | Path, revision: str | None = None) -> Checkpoint:
        """A base, opened."""
        return open_checkpoint(locate(named, revision, role="base", stream=self.stream), allow_pickle=self.allow_pickle)

    def catalogue(self, named: str | Path, revision: str | None = None) -> Catalogue:
        """The matrices of a base."""
        return catalogue(self.checkpoint(named, revision))


def open_adapter_pair(adapter: Adapter, tuned: str, sources: Sources, chosen: Selection) -> CheckpointPair:
    """Match an adapter with its base.

    Raises:
        AdapterError: If the adapter is incomplete, or does not fit the base.
        CheckpointError: If the base cannot be read.
    """
    named = sources.named(adapter.base, adapter.path)
    if named is None:
        raise AdapterError(
            f"'{adapter.path / CONFIG}' does not name the base it was trained from. Name it with --base."
        )
    book = sources.catalogue(named, sources.base_revision or (adapter.revision if sources.base is None else None))
    aligned = aligned_with(adapter, book)
    warnings = [*book.checkpoint.warnings, *wrong_base_warnings(adapter, book, str(named))]
    findings = Findings()
    if is_plain(adapter):
        matches, method, told = _lora(adapter, aligned, sources, findings)
        warnings += told
    else:
        matches, method = peft_matches(adapter, aligned), adapter.peft_type.lower()
    whole, unmatched = saved_whole(adapter, book, aligned, findings.known)
    apart, known = settle(findings.problems, book, chosen)
    assembly = assemble(
        book,
        [*matches, *whole],
        chosen,
        untouched="not changed by this adapter",
        known={**findings.known, **known},
    )
    return CheckpointPair(
        shown_name(named),
        tuned,
        "adapter",
        method,
        assembly.matrices,
        (*assembly.skipped, *apart, *unmatched),
        (*coverage_warnings(assembly.coverage), *warnings, *assembly.warnings),
        trained_parameters=adapter.trained_parameters,
        nbytes=sum(tensor.nbytes for tensor in adapter.tensors.values()),
        coverage=assembly.coverage,
    )


def aligned_with(adapter: Adapter, book: Catalogue) -> Alignment:
    """An alignment that knows the adapter's names.

    transformers is asked for translations only when a module is unknown under every prefix, or peft is needed anyway.
    """
    tied = tied_heads(book)
    aligned = Alignment(book.matrices, alternating=book.alternating, tied=tied)
    if is_plain(adapter) and not unknown_modules(adapter, aligned):
        return aligned
    known = book.architecture
    names = known.memory_names(list(book.matrices))
    return Alignment(book.matrices, names, order=known.order, alternating=book.alternating, tied=tied)


def _lora(
    adapter: Adapter, aligned: Alignment, sources: Sources, findings: Findings
) -> tuple[list[Match], str, list[str]]:
    """Plain LoRA or DoRA, the base's mutation undone where the initialisation changed it."""
    matches = lora_matches(adapter, aligned, findings)
    method = "dora" if adapter.config.get("use_dora") else "lora"
    warnings = []
    if adapter.config.get("alora_invocation_tokens"):
        warnings.append("This is an activated LoRA: the update applies only after its invocation tokens.")
    if any(".base_layer.out_proj.lora_" in name for name in adapter.tensors):
        warnings.append(
            "peft 0.21 applies the update of a MultiheadAttention's out_proj twice, in its forward pass and when it "
            "merges; here it is read once, as trained: W0 + scaling * B @ A."
        )
    init = mutating_init(adapter.config)
    if sources.tuned_base is not None:
        mutated = Alignment(sources.catalogue(sources.tuned_base).matrices)
        matches = [replace(match, change=OnMutatedBase(match.change, _same(mutated, match))) for match in matches]
        told = f"W_tuned is '{sources.tuned_base}' plus the adapter; W0 is the original base."
    elif sources.initial_adapter is not None:
        initial = {match.module: match.change for match in lora_matches(_initial(adapter, sources), aligned)}
        matches = [subtracting(match, initial.get(match.module), adapter) for match in matches]
        told = f"The update is the adapter minus its initial state '{sources.initial_adapter}'."
    elif init is None:
        return matches, method, warnings
    else:
        matches = [_recomputed(match, init, adapter) for match in matches]
        told = (
            f"Initialised with {init}, which took its first factors out of the base: they are recomputed from W0 and "
            "subtracted, so W0 must be the original base."
        )
    return matches, f"{method} ({init})" if init else method, [*warnings, told]


def _same(mutated: Alignment, match: Match) -> StoredMatrix:
    found = mutated.matrix(match.module)
    if found is None or found[1].shape != match.W0.shape:
        raise AdapterError(
            f"--tuned-base has no matrix '{match.module}' of shape {match.W0.shape}. Check --tuned-base."
        )
    return found[1]


def _initial(adapter: Adapter, sources: Sources) -> Adapter:
    path = locate(str(sources.initial_adapter), role="initial adapter", stream=sources.stream)
    place = find_adapter(path, take="adapter")
    if place.adapter is None:
        raise AdapterError(f"'{path}' is no adapter folder. Give the adapter that was saved before training.")
    return open_adapter(place.adapter, allow_pickle=sources.allow_pickle, adapter_name=adapter.name)


def _direction(match: Match, changed: Change) -> Match:
    """The match with its low-rank part replaced, under DoRA's magnitudes if it has them."""
    change = match.change
    return replace(match, change=replace(change, inner=changed) if isinstance(change, DoraChange) else changed)


def _low_rank_part(change: Change) -> Change:
    return change.inner if isinstance(change, DoraChange) else change


def subtracting(match: Match, initial: Change | None, adapter: Adapter) -> Match:
    """The match with the adapter's initial state taken off its low-rank part.

    Raises:
        AdapterError: If the initial adapter lacks this module.
    """
    if initial is None:
        raise AdapterError(
            f"--initial-adapter has no factors for '{match.module}', which '{adapter.file}' changes. "
            "Give the adapter that was saved before training."
        )
    return _direction(match, SubtractedAdapter(_low_rank_part(match.change), _low_rank_part(initial)))


def _recomputed(match: Match, init: str, adapter: Adapter) -> Match:
    if init not in ("pissa", "olora"):
        raise AdapterError(
            f"'{adapter.path}' was initialised with '{init}', which changed the base in a way that W0 alone does not "
            "determine. Give the changed base with --tuned-base"
            + (
                ", or convert the adapter to plain LoRA."
                if init == "loftq"
                else " or the initial adapter with --initial-adapter."
            )
        )
    transposed = match.W0.blocks[0].transposed
    inner = _low_rank_part(match.change)
    return _direction(match, SubtractedInit(inner, "pissa" if init == "pissa" else "olora", transposed))
