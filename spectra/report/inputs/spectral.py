"""From the record of `spectra scan` to what a page is made of: verdicts, curves behind them, controls beside them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectra.errors import RunError
from spectra.records import METRICS, MatrixMeasures, SpectralScan
from spectra.records.intruder_scan import IntruderScan, MatrixSpectrum, UpdateNorms

if TYPE_CHECKING:
    import pandas as pd

CONTROLS = "controls"
MEASURED = "the checkpoint"
NORMS = ("frobenius", "spectral", "relative", "effective_rank", "stable_rank")


def spectral_scan(path: Path) -> SpectralScan | None:
    """The scan that `spectra scan --json` printed into a file; None if the file holds something else.

    Raises:
        RunError: If the scan has no verdicts on intruders, without which there is no page.
        DataError: If it is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or "format" not in content:
        return None
    scan = SpectralScan.from_dict(content)
    if not all(matrix.vectors for matrix in scan.matrices):
        raise RunError(f"The scan in '{path}' has no intruder verdicts. Scan again with --metrics intruders,update.")
    return scan


def details(scan: SpectralScan) -> "dict[str, pd.DataFrame]":
    """The curves and maps that the scan kept, and its controls."""
    import pandas as pd

    return {
        "similarity": pd.DataFrame(list(_similarity(scan)), columns=["name", "i", "j", "cosine"]),
        "spectra": pd.DataFrame(list(_spectra(scan)), columns=["name", "kind", "index", "value"]),
        CONTROLS: pd.DataFrame(list(_controls(scan))),
    }


def verdicts(scan: SpectralScan) -> IntruderScan:
    """The scan as a scan for intruders alone."""
    return IntruderScan(
        checkpoint=scan.checkpoint,
        base=scan.base,
        k=scan.k,
        epsilon=scan.epsilon,
        side=scan.side,
        method="auto",
        matrices=tuple(
            MatrixSpectrum(
                matrix.name,
                matrix.layer,
                matrix.role,
                matrix.block,
                matrix.shape,
                matrix.method,
                tuple(vector.verdict for vector in matrix.vectors),
                sum(matrix.seconds.values()),
                _norms(matrix),
            )
            for matrix in scan.matrices
        ),
        skipped=scan.skipped,
        warnings=scan.warnings,
        versions=scan.versions,
        kind=scan.kind,
        coverage=scan.coverage,
    )


def _norms(matrix: MatrixMeasures) -> UpdateNorms | None:
    """Norms of the update, if all of them were measured."""
    values = {name: matrix.value(f"update.{name}") for name in NORMS}
    known = {name: value for name, value in values.items() if value is not None}
    return UpdateNorms(**known) if len(known) == len(NORMS) else None


def _similarity(scan: SpectralScan) -> Iterator[tuple[str, int, int, float]]:
    for matrix in scan.matrices:
        for grid in matrix.grids:
            if grid.name == "similarity" and grid.side == scan.primary_side:
                for i, cosines in enumerate(grid.values):
                    for j, cosine in enumerate(cosines):
                        yield matrix.name, i, j, cosine


def _spectra(scan: SpectralScan) -> Iterator[tuple[str, str, int, float]]:
    for matrix in scan.matrices:
        kinds = {"W0": matrix.base_values, "W_tuned": matrix.tuned_values, "delta_W": matrix.update_values}
        for kind, values in kinds.items():
            for index, value in enumerate(values):
                yield matrix.name, kind, index, value


def _controls(scan: SpectralScan) -> Iterator[dict[str, Any]]:
    """One row per metric that has a value: the checkpoint's figure, and that of every control."""
    nulls = list(dict.fromkeys(line.null for matrix in scan.matrices for m in matrix.measures for line in m.nulls))
    for metric in METRICS.values():
        value = scan.total(metric.key)
        if value is not None:
            beside = {null: scan.total(metric.key, null) for null in nulls}
            yield {"metric": metric.key, "over": metric.total, "formula": metric.formula, MEASURED: value, **beside}
