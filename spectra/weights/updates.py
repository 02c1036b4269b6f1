"""An adapter by itself: the update of every module, for which no base is needed."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spectra.records.selection import DEFAULT, Selection
from spectra.records.verdicts import Skipped
from spectra.weights.dialects.foreign import ForeignAdapter, NamedChange, lora_change
from spectra.weights.dialects.table import open_foreign
from spectra.weights.formats.hub import locate
from spectra.weights.formats.stored import StoredMatrix
from spectra.weights.methods.adapter import LORA_KEY, Adapter, Factors, find_adapter, lora_factors, open_adapter
from spectra.weights.methods.changes import DoraChange, LoraChange
from spectra.weights.methods.lora import is_plain, lora_patterns
from spectra.weights.methods.mutated import mutating_init
from spectra.weights.methods.parameters import container_of, targeted_parameters
from spectra.weights.methods.scaling import LoraSettings
from spectra.weights.streams.opened import shown_name


@dataclass(frozen=True, eq=False)
class AdapterUpdates:
    """The updates of an adapter.

    Attributes:
        location: The adapter as the user named it.
        method: "lora", "dora", "loha", ...
        kind: What kind of file it is.
        base: The base that it names, if it names one.
        changes: By module.
        needs_base: What a base is needed for, and why.
        trained_parameters: Numbers that were trained.
        nbytes: Bytes of the adapter's tensors.
    """

    location: str
    method: str
    kind: str
    base: str | None
    changes: tuple[NamedChange, ...]
    needs_base: tuple[Skipped, ...]
    trained_parameters: int
    nbytes: int


def open_updates(checkpoint: str | Path, *, selection: Selection = DEFAULT) -> AdapterUpdates | None:
    """The updates of an adapter, or None when the checkpoint is no adapter.

    Args:
        checkpoint: Folder, file or hub id.
        selection: How its files are opened; all updates are given, whatever it selects.

    Raises:
        AdapterError: If the adapter is incomplete, or disagrees with its configuration.
        CheckpointError: If a file is missing or broken.
    """
    path = locate(checkpoint, selection.revision, stream=bool(selection.stream))
    allow_pickle, adapter_name = selection.allow_pickle, selection.adapter_name
    foreign = open_foreign(path, allow_pickle=allow_pickle) if selection.take != "model" else None
    if foreign is not None:
        return _of_foreign(shown_name(checkpoint), foreign)
    found = find_adapter(path, adapter_name, selection.take).adapter
    if found is None:
        return None
    return _of_peft(shown_name(checkpoint), open_adapter(found, allow_pickle=allow_pickle, adapter_name=adapter_name))


def _of_foreign(location: str, adapter: ForeignAdapter) -> AdapterUpdates:
    needs = [
        Skipped(change.module, "the magnitudes of DoRA are relative to W0; the update is that of the direction")
        for change in adapter.changes
        if isinstance(change.change, DoraChange)
    ]
    needs += [Skipped(name, "saved whole: its update is the difference to W0") for name in adapter.whole or {}]
    return AdapterUpdates(
        location,
        adapter.method,
        adapter.dialect,
        adapter.base,
        adapter.changes,
        tuple(needs),
        sum(change.change.parameters for change in adapter.changes),
        adapter.nbytes,
    )


def _of_peft(location: str, adapter: Adapter) -> AdapterUpdates:
    changes: list[NamedChange] = []
    needs: list[Skipped] = []
    method = adapter.peft_type.lower()
    if not is_plain(adapter):
        needs.append(Skipped(location, f"the update of {adapter.peft_type} is what peft makes of W0"))
    else:
        patterns = lora_patterns(adapter)
        method = "dora" if adapter.config.get("use_dora") else "lora"
        init = mutating_init(adapter.config)
        for factors in lora_factors(adapter):
            container, depth = container_of(factors.module)
            if depth or targeted_parameters(adapter, container):
                needs.append(Skipped(factors.module, "factors of several experts, which the base tells apart"))
                continue
            if factors.magnitude is not None:
                reason = "the magnitudes of DoRA are relative to W0; the update is that of the direction"
                needs.append(Skipped(factors.module, reason))
            if init is not None:
                reason = f"initialised with {init}, which changed the base: the update is relative to the changed base"
                needs.append(Skipped(factors.module, reason))
            changes += _named(factors, patterns.settings(factors.module), adapter.file)
        whole = [name for name in adapter.tensors if not LORA_KEY.match(name)]
        needs += [Skipped(name, "saved whole: its update is the difference to W0") for name in whole]
    return AdapterUpdates(
        location,
        method,
        "adapter of peft",
        adapter.base,
        tuple(changes),
        tuple(needs),
        adapter.trained_parameters,
        sum(tensor.nbytes for tensor in adapter.tensors.values()),
    )


def _named(factors: Factors, settings: LoraSettings, path: Path) -> Iterator[NamedChange]:
    """The update of one module; one for each expert where the factors are stacked.

    Raises:
        AdapterError: If a factor's rank is not the other's.
    """
    if len(factors.A.shape) == 3 and len(factors.B.shape) == 3:
        container, _, leaf = factors.module.rpartition(".")
        for expert in range(max(factors.A.shape[0], factors.B.shape[0])):
            A = StoredMatrix.of(factors.A, expert=expert % factors.A.shape[0])
            B = StoredMatrix.of(factors.B, expert=expert % factors.B.shape[0])
            change = lora_change(factors.module, A, B, path=path, scaling=settings.scaling)
            yield NamedChange(f"{container}.{expert}.{leaf}", change, (B.shape[0], A.shape[1]))
        return
    turned = factors.is_embedding
    A = StoredMatrix.of(factors.B if turned else factors.A, transposed=turned)
    B = StoredMatrix.of(factors.A if turned else factors.B, transposed=turned)
    lora_change(factors.module, A, B, path=path)
    yield NamedChange(factors.module, LoraChange(A, B, settings), (B.shape[0], A.shape[1]))
