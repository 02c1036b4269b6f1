"""`spectra.scan`: every metric of a checkpoint, beside what chance would give."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from spectra.engine.cache import FactorCache
from spectra.facade.spreading import spread_over
from spectra.records.catalogue import DEFAULT_GROUPS, chosen_groups
from spectra.records.interrupted import Interrupted
from spectra.records.scan import Scan
from spectra.records.scan_rows import Rows
from spectra.records.selection import DEFAULT, Selection
from spectra.records.verdicts import Side
from spectra.scanning.scan import Notice, Progress, scan_checkpoints
from spectra.scanning.settings import EVERY_MATRIX, Arithmetic, Method, ScanSettings

if TYPE_CHECKING:
    from spectra.forgetting import HeldOut


def scan(
    checkpoint: str | Path,
    base: str | Path | None = None,
    *,
    selection: Selection = DEFAULT,
    metrics: str | Sequence[str] = DEFAULT_GROUPS,
    k: int = 10,
    epsilon: float = 0.5,
    epsilons: Sequence[float] = (),
    side: Side = "left",
    seed: int = 0,
    draws: int = 1,
    exact: bool = False,
    method: Method = "auto",
    dtype: Arithmetic = "float32",
    device: str = "cpu",
    memory_bytes: int | None = None,
    texts: str | Mapping[str, Any] | None = None,
    text_limit: int = 256,
    pictures: bool = False,
    out: str | Path | None = None,
    force: bool = False,
    ray: str | None = None,
    cache: FactorCache | None = None,
    progress: Progress | None = None,
    notice: Notice | None = None,
) -> Scan:
    """Measure what fine-tuning did to the spectra of a checkpoint, each number beside what chance would give.

    Args:
        checkpoint: A peft adapter folder or a full checkpoint (folder, file or hub id).
        base: The pre-trained checkpoint; by default the one that the adapter names.
        selection: Which matrices, and how the files are opened.
        metrics: Groups of `records.GROUPS`, such as "intruders,ranks"; "all" for every one.
        k: Leading singular vectors looked at per matrix.
        epsilon: Cosine below which a vector counts as an intruder.
        epsilons: Further thresholds that the verdicts are decided for.
        side: "left" (the paper), "right" or "both".
        seed: Seed of every simulated control and every estimate.
        draws: Simulations of each random control.
        exact: Compute all singular values of large matrices too (a factorisation each).
        method: How verdicts are reached; all methods give the same ones.
        dtype: Arithmetic of the scan.
        device: torch device of the computation.
        memory_bytes: Budget; a W0 beyond it is read block by block and has no dense controls.
        texts: Also measure the drift of every matrix's outputs on these texts: a task or a file.
        text_limit: Texts at most.
        pictures: Keep leading cosines and spectra for the report (`spectra.write_report`).
        out: Write `scan.json` and every table as Parquet into this folder, also of an interrupted scan.
        force: Replace the folder of an earlier scan.
        ray: Spread the matrices over a Ray cluster: "auto", or HOST:PORT of its head.
        cache: Where factors of W0 and simulations are kept between scans; with it, an interrupted scan goes on where it
            was. None keeps nothing.
        progress: Called with (matrices done, all, name) after each, then with (texts done, all, "").
        notice: Called with a sentence on what will be read from distant files, before it is.

    Returns:
        One entry per matrix; `to_dataframe()` is one row per matrix, metric and side.

    Raises:
        CheckpointError, AdapterError: If a checkpoint cannot be read or does not fit its base, or nothing is selected.
        SpectrumError: If a setting has no meaning.
        Interrupted: On Ctrl-C, with what is done.

    Example:
        >>> scan = spectra.scan(adapter, metrics="intruders,update", k=4, selection=spectra.Selection(layers=0))
        >>> round(scan.total("update.effective_rank"), 2)
        1.92
        >>> scan.to_dataframe()["metric"].nunique()
        16
    """
    task = None
    if texts is not None:  # read before the scan: a wrong name costs no time
        from spectra.facade.tasks import held_out_tasks

        [task] = held_out_tasks(texts, limit=text_limit)
    settings = ScanSettings(
        k=k,
        epsilon=epsilon,
        epsilons=tuple(epsilons),
        side=side,
        method=method,
        dtype=dtype,
        device=device,
        memory_bytes=memory_bytes,
        groups=chosen_groups(metrics),
        seed=seed,
        draws=draws,
        exact=exact,
        pictured=(EVERY_MATRIX,) if pictures else (),
    )
    try:
        [found] = scan_checkpoints(
            [checkpoint],
            base,
            settings,
            selection=selection if task is None else replace(selection, stream=bool(selection.stream)),
            cache=cache,
            progress=progress,
            spread=spread_over(ray),
            notice=notice,
        )
    except Interrupted as cut:
        [partial] = cut.result
        if out is not None:
            _write(partial, Path(out), force=force)
        raise Interrupted(partial, resumes=cut.resumes) from cut
    if task is not None:
        found = _on_texts(found, task, str(texts), selection, device, progress)
    if out is not None:
        _write(found, Path(out), force=force)
    return found


def _on_texts(
    scan: Scan, task: "HeldOut", name: str, selection: Selection, device: str, progress: Progress | None
) -> Scan:
    """The scan with the drift of every matrix's outputs on the activations of the base."""
    from spectra.forgetting.output_drift import output_drift, with_drift
    from spectra.models import load_base, load_kind
    from spectra.weights import open_pair

    loaded = load_base(scan.base, load_kind(scan.base), device=device)
    pair = open_pair(scan.base, scan.checkpoint, selection)
    drift = output_drift(pair, loaded.model, loaded.tokenizer, task.test_texts(), progress=progress)
    return with_drift(scan, drift, name)


def _write(scan: Scan, out: Path, *, force: bool) -> None:
    """`scan.json`, from which the record can be read again, and each of its tables as Parquet."""
    from spectra.storage.atomic import write_json
    from spectra.storage.destinations import whole_folder
    from spectra.storage.tables import write_parquet

    with whole_folder(out, "scan", force=force) as folder:
        write_json(folder / "scan.json", scan.to_dict())
        for kind in _kinds(scan):
            write_parquet(folder / f"{kind}.parquet", scan.to_dataframe(kind))


def _kinds(scan: Scan) -> Iterator[Rows]:
    """The tables that have rows."""
    for kind in get_args(Rows):
        if any(True for _ in scan.rows(kind)):
            yield kind
