"""Write an adapter whose intruder dimensions are scaled, and count again."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from spectra.engine.cache import FactorCache
from spectra.errors import AdapterError
from spectra.interventions.adapter_factors import edited_config, edited_tensors, require_editable
from spectra.interventions.mitigation_plan import MitigationPlan, mitigated_factors
from spectra.interventions.outcome import MitigatedMatrix, Mitigation
from spectra.records.provenance import versions
from spectra.records.scan import Scan
from spectra.records.selection import DEFAULT, Selection
from spectra.records.verdicts import Skipped
from spectra.scanning.scan import Progress, scan_pairs
from spectra.scanning.settings import ScanSettings
from spectra.storage.destinations import require_folder
from spectra.weights import CheckpointPair, Origin, base_fingerprint, open_pair, write_adapter
from spectra.weights.formats.hub import locate
from spectra.weights.methods.adapter import Adapter, find_adapter, open_adapter
from spectra.weights.methods.changes import LoraChange, Replaced


def write_mitigated(
    adapter: str | Path,
    out: str | Path,
    *,
    base: str | Path | None = None,
    selection: Selection = DEFAULT,
    lam: float = 0.7,
    select: str = "top",
    share: float = 0.9,
    rank: str | int = "exact",
    shrink: bool = False,
    k: int = 10,
    epsilon: float = 0.5,
    device: str = "cpu",
    force: bool = False,
    cache: FactorCache | None = None,
    progress: Progress | None = None,
) -> Mitigation:
    """Scale the intruder dimensions of a LoRA adapter and write the result as an adapter that peft loads.

    delta_W -> delta_W + (lambda - 1) sum_{j chosen} u_j sigma_j v_j^H,  with the triplets of W0 + delta_W.

    Args:
        adapter: A LoRA adapter: folder or hub id.
        out: The folder to write.
        base: The pre-trained checkpoint; by default the one that the adapter names.
        selection: Which matrices, and how the files are opened.
        lam: Factor on the treated singular values, in [0, 2]: 0 removes, 1 changes nothing.
        select: "top", "all" or "energy" (see `direction_selection.selected_directions`).
        share: Of the intruders' energy, for "energy".
        rank: "exact" (present rank + treated directions, module by module), "same" (truncated to the present rank,
            which loses energy) or the largest rank of a treated module.
        shrink: Write instead  delta_W -> c delta_W  of the norm that the intervention leaves, matrix by matrix.
        k: Leading singular vectors looked at per matrix.
        epsilon: Cosine below which a vector counts.
        device: torch device of the computation.
        force: Replace an existing folder.
        cache: Where factors of W0 are kept between scans.
        progress: Called with (matrices done, all, name) by the scans before and after.

    Returns:
        What was treated, with the counts before and after.

    Raises:
        AdapterError: If it is no adapter, or of a kind that cannot be edited (DoRA, methods other than LoRA).
        CheckpointError: If a file cannot be read.
        DestinationError: If `out` exists and `force` is not given, or it is no adapter that this package wrote.
        SpectrumError: If a setting has no meaning.

    Source: Shuttleworth et al., arXiv:2410.21228, section 5.
        Difference: exact in the adapter's own format, where peft's `reduce_intruder_dimension` truncates to the rank.
    """
    plan = MitigationPlan(lam, select, share, rank, shrink)
    settings = ScanSettings(k=k, epsilon=epsilon, device=device)
    opened = _open(adapter, selection)
    require_editable(opened)
    kept = [opened.path, *(Path(named) for named in (base, opened.base) if named)]
    require_folder(Path(out), "adapter", force=force, inputs=kept)
    pair = _treatable(open_pair(base, adapter, selection))
    (before,) = scan_pairs([pair], settings, cache=cache, progress=progress)
    treated = [
        mitigated_factors(matrix, spectrum, plan, device)
        for matrix, spectrum in zip(pair.matrices, before.matrices, strict=True)
        if spectrum.count
    ]
    exchanged = [factors for factors, _ in treated]
    origin = Origin(str(pair.base), _fingerprint(base, opened, selection), _made_by(plan, settings), str(adapter))
    config, tensors = edited_config(opened, exchanged), edited_tensors(opened, exchanged)
    write_adapter(Path(out), config, tensors, origin, source=opened.path, force=force)
    reopening = replace(selection, adapter_name=None, revision=None)
    records = [record for _, record in treated]
    after = _scan_again(open_pair(base, out, selection=reopening), before, records, settings, cache, progress)
    return _outcome(before, after, plan, records, str(out))


def _open(adapter: str | Path, selection: Selection) -> Adapter:
    name = selection.adapter_name
    place = find_adapter(locate(adapter, selection.revision), name, selection.take)
    if place.adapter is None:
        raise AdapterError(f"'{adapter}' is no adapter folder, and only adapters are mitigated. Name one.")
    return open_adapter(place.adapter, allow_pickle=selection.allow_pickle, adapter_name=name)


def _treatable(pair: CheckpointPair) -> CheckpointPair:
    """The matrices with factors of their own; a module that the adapter saved whole is carried over."""
    kept = tuple(matrix for matrix in pair.matrices if isinstance(matrix.change, LoraChange))
    whole = [matrix for matrix in pair.matrices if isinstance(matrix.change, Replaced)]
    if len(kept) + len(whole) < len(pair.matrices):
        raise AdapterError(
            f"Matrices of '{pair.checkpoint}' were opened without factors of their own. "
            "Leave out split_fused, tuned_base and initial_adapter."
        )
    skipped = [Skipped(str(matrix.name), "saved whole by the adapter; carried over unchanged") for matrix in whole]
    if not kept:
        raise AdapterError(
            f"No matrix of '{pair.checkpoint}' is both selected and changed by LoRA factors. "
            "Embeddings and what stands outside the blocks need --include."
        )
    return replace(pair, matrices=kept, skipped=(*pair.skipped, *skipped))


def _scan_again(
    written: CheckpointPair,
    before: Scan,
    treated: Sequence[MitigatedMatrix],
    settings: ScanSettings,
    cache: FactorCache | None,
    progress: Progress | None,
) -> Scan:
    """The scan of the written adapter: treated matrices anew; the others hold the same numbers as before."""
    names = {record.name for record in treated}
    if not names:
        return before
    pair = replace(written, matrices=tuple(matrix for matrix in written.matrices if str(matrix.name) in names))
    (scan,) = scan_pairs([pair], settings, cache=cache, progress=progress)
    again = {matrix.name: matrix for matrix in scan.matrices}
    return replace(scan, matrices=tuple(again.get(matrix.name, matrix) for matrix in before.matrices))


def _fingerprint(base: str | Path | None, adapter: Adapter, selection: Selection) -> tuple[float, ...]:
    revision = selection.base_revision
    if base is not None:
        return base_fingerprint(base, revision)
    return base_fingerprint(str(adapter.base), revision or adapter.revision)


def _made_by(plan: MitigationPlan, settings: ScanSettings) -> str:
    how = "--shrink" if plan.shrink else f"--rank {plan.rank}"
    share = f"--share {plan.share:g} " if plan.select == "energy" else ""
    return (
        f"spectra mitigate --lambda {plan.lam:g} --select {plan.select} {share}{how} "
        f"-k {settings.k} --epsilon {settings.epsilon:g}"
    )


def _outcome(
    before: Scan, after: Scan, plan: MitigationPlan, treated: Sequence[MitigatedMatrix], out: str
) -> Mitigation:
    warnings = list(dict.fromkeys((*before.warnings, *after.warnings)))
    return Mitigation(
        adapter=before.checkpoint,
        base=before.base,
        out=out,
        lam=plan.lam,
        select=plan.select,
        rank=plan.rank,
        shrink=plan.shrink,
        k=before.k,
        epsilon=before.epsilon,
        scanned=len(before.matrices),
        count_before=before.count,
        count_after=after.count,
        matrices=tuple(treated),
        skipped=before.skipped,
        warnings=tuple(warnings),
        versions=versions(),
    )
