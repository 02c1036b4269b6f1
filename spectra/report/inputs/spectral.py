"""From the record of a scan to what a page is made of: curves and maps behind the verdicts, controls beside them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from spectra.records import METRICS, Scan
from spectra.records.catalogue import VERDICTS_ALONE

if TYPE_CHECKING:
    import pandas as pd

CONTROLS = "controls"
MEASURED = "the checkpoint"


def details(scan: Scan) -> "dict[str, pd.DataFrame]":
    """The curves and maps that the scan kept, and its controls."""
    import pandas as pd

    return {
        "similarity": pd.DataFrame(list(_similarity(scan)), columns=["name", "i", "j", "cosine"]),
        "spectra": pd.DataFrame(list(_spectra(scan)), columns=["name", "kind", "index", "value"]),
        CONTROLS: pd.DataFrame(list(_controls(scan)) if scan.groups != VERDICTS_ALONE else []),
    }


def _similarity(scan: Scan) -> Iterator[tuple[str, int, int, float]]:
    for matrix in scan.matrices:
        for grid in matrix.grids:
            if grid.name == "similarity" and grid.side == scan.primary_side:
                for i, cosines in enumerate(grid.values):
                    for j, cosine in enumerate(cosines):
                        yield matrix.name, i, j, cosine


def _spectra(scan: Scan) -> Iterator[tuple[str, str, int, float]]:
    for matrix in scan.matrices:
        if not matrix.base_values:
            continue
        kinds = {"W0": matrix.base_values, "W_tuned": matrix.tuned_values, "delta_W": matrix.update_values}
        for kind, values in kinds.items():
            for index, value in enumerate(values):
                yield matrix.name, kind, index, value


def _controls(scan: Scan) -> Iterator[dict[str, Any]]:
    """One row per metric that has a value: the checkpoint's figure, and that of every control."""
    nulls = list(dict.fromkeys(line.null for matrix in scan.matrices for m in matrix.measures for line in m.nulls))
    for metric in METRICS.values():
        value = scan.total(metric.key)
        if value is not None:
            beside = {null: scan.total(metric.key, null) for null in nulls}
            yield {"metric": metric.key, "over": metric.total, "formula": metric.formula, MEASURED: value, **beside}
