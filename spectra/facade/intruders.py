"""`spectra.intruders`: count the intruder dimensions of checkpoints."""

from collections.abc import Sequence
from pathlib import Path
from typing import overload

from spectra.engine.cache import FactorCache
from spectra.facade.spreading import spread_over
from spectra.records.catalogue import VERDICTS_ALONE, chosen_groups
from spectra.records.interrupted import Interrupted
from spectra.records.intruder_scan import IntruderScan, IntruderScans
from spectra.records.selection import DEFAULT, Selection
from spectra.records.verdicts import Side
from spectra.scanning.scan import Notice, Progress, scan_checkpoints
from spectra.scanning.settings import EVERY_MATRIX, Arithmetic, Method, ScanSettings


@overload  # mypy: a str is a sequence of str, and is taken by this one first
def intruders(  # type: ignore[overload-overlap]
    checkpoint: str | Path,
    base: str | Path | None = None,
    *,
    selection: Selection = DEFAULT,
    k: int = 10,
    epsilon: float = 0.5,
    epsilons: Sequence[float] = (),
    side: Side = "left",
    method: Method = "auto",
    dtype: Arithmetic = "float32",
    device: str = "cpu",
    memory_bytes: int | None = None,
    dense_norms: bool = False,
    pictures: bool = False,
    controls: bool = False,
    ray: str | None = None,
    cache: FactorCache | None = None,
    progress: Progress | None = None,
    notice: Notice | None = None,
) -> IntruderScan: ...


@overload
def intruders(
    checkpoint: Sequence[str | Path],
    base: str | Path | None = None,
    *,
    selection: Selection = DEFAULT,
    k: int = 10,
    epsilon: float = 0.5,
    epsilons: Sequence[float] = (),
    side: Side = "left",
    method: Method = "auto",
    dtype: Arithmetic = "float32",
    device: str = "cpu",
    memory_bytes: int | None = None,
    dense_norms: bool = False,
    pictures: bool = False,
    controls: bool = False,
    ray: str | None = None,
    cache: FactorCache | None = None,
    progress: Progress | None = None,
    notice: Notice | None = None,
) -> IntruderScans: ...


def intruders(
    checkpoint: str | Path | Sequence[str | Path],
    base: str | Path | None = None,
    *,
    selection: Selection = DEFAULT,
    k: int = 10,
    epsilon: float = 0.5,
    epsilons: Sequence[float] = (),
    side: Side = "left",
    method: Method = "auto",
    dtype: Arithmetic = "float32",
    device: str = "cpu",
    memory_bytes: int | None = None,
    dense_norms: bool = False,
    pictures: bool = False,
    controls: bool = False,
    ray: str | None = None,
    cache: FactorCache | None = None,
    progress: Progress | None = None,
    notice: Notice | None = None,
) -> IntruderScan | IntruderScans:
    """Count the intruder dimensions of a fine-tuned checkpoint, or of several that share the work on their base.

    Args:
        checkpoint: A peft adapter folder or a full checkpoint (folder, file or hub id), or several of them.
        base: The pre-trained checkpoint; by default the one that the adapter names.
        selection: Which matrices, and how the files are opened.
        k: Leading singular vectors looked at per matrix.
        epsilon: Cosine below which a vector counts.
        epsilons: Further thresholds decided by the same scan.
        side: "left" (the paper), "right" or "both".
        method: How verdicts are reached; all methods give the same ones.
        dtype: Arithmetic of the scan.
        device: torch device of the computation.
        memory_bytes: Budget; matrices beyond it are read block by block.
        dense_norms: Also norms and effective rank of a dense delta_W (costs a factorisation each).
        pictures: Keep leading cosines and spectra for the report (`spectra.write_report`).
        controls: Also measure the null controls, as `spectra.scan` does, for conditions on them.
        ray: Spread the matrices over a Ray cluster: "auto", or HOST:PORT of its head.
        cache: Where factors of W0 are kept between scans; with it, an interrupted scan goes on where it was. None keeps
            nothing.
        progress: Called with (matrices done, all, name) after each.
        notice: Called with a sentence on what will be read from distant files, before it is.

    Returns:
        One record per matrix and vector; for several checkpoints one scan each, in their order.

    Raises:
        CheckpointError, AdapterError: If a checkpoint cannot be read or does not fit its base, or nothing is selected.
        SpectrumError: If a setting has no meaning.
        Interrupted: On Ctrl-C, with what is done.

    Source: Shuttleworth et al., arXiv:2410.21228, Definition 3.1 and Algorithm 1.

    Example:
        >>> scan = spectra.intruders(adapter, k=4, epsilon=0.9)
        >>> scan.count, len(scan.matrices)
        (47, 14)
        >>> scan.to_dataframe().query("count > 3")["name"].tolist()[:2]
        ['layers.0.mlp.gate_proj', 'layers.0.self_attn.k_proj']
    """
    alone = isinstance(checkpoint, str | Path)
    checkpoints = [checkpoint] if isinstance(checkpoint, str | Path) else list(checkpoint)
    settings = ScanSettings(
        k=k,
        epsilon=epsilon,
        epsilons=tuple(epsilons),
        side=side,
        method=method,
        dtype=dtype,
        device=device,
        memory_bytes=memory_bytes,
        dense_norms=dense_norms,
        pictured=(EVERY_MATRIX,) if pictures else (),
        groups=chosen_groups("intruders,update,nulls") if controls else VERDICTS_ALONE,
    )
    try:
        found = scan_checkpoints(
            checkpoints,
            base,
            settings,
            selection=selection,
            cache=cache,
            progress=progress,
            spread=spread_over(ray),
            notice=notice,
        )
    except Interrupted as cut:
        scans = IntruderScans(tuple(map(IntruderScan.of, cut.result)))
        raise Interrupted(scans[0] if alone else scans, resumes=cut.resumes) from cut
    scans = IntruderScans(tuple(map(IntruderScan.of, found)))
    return scans[0] if alone else scans
