"""The spectral part of a sweep: a trial's checkpoint against the published W0, as rows of the tables."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from spectra.engine.cache import FactorCache
from spectra.records.scan import Scan
from spectra.records.totals import totals
from spectra.runs import TrialFolder
from spectra.scanning.scan import scan_pairs
from spectra.scanning.settings import ScanSettings
from spectra.sweep.spec.plan import plan
from spectra.sweep.spec.specification import Specification
from spectra.training.callback import SpectraCallback
from spectra.weights import MatrixPair, open_pair

SHOWN_VECTORS = 32
OF_A_CONTROL = ("index", "singular_value", "max_cosine", "is_intruder", "lower", "upper")


def scan_trial(
    folder: TrialFolder, weights: Path, base: str, specification: Specification, cache: FactorCache | None = None
) -> tuple[dict[str, Any], float]:
    """Scan a trained checkpoint once, write its rows, and sum them up.

    Args:
        folder: Where the rows are written.
        weights: The checkpoint.
        base: The published base.
        specification: The sweep.
        cache: Where factors of the base are kept for the other trials; by default in the cache folder of spectra.

    Returns:
        Columns of the trials table, and the seconds that the controls took.
    """
    pair = open_pair(base, weights)
    settings = scan_settings(specification)
    if pair.matrices:
        settings = replace(settings, pictured=(str(shown_matrix(pair.matrices).name),))
    [scan] = scan_pairs([pair], settings, cache=cache or FactorCache())
    folder.write_rows("matrices", scan.matrix_rows())
    folder.write_rows("vectors", scan.vector_rows())
    folder.write_rows("update_spectra", _update_rows(scan))
    folder.write_rows("controls", _control_rows(scan))
    folder.write_rows("similarity", _similarity_rows(scan))
    return summary(scan), scan.seconds.get("nulls", 0.0)


def scan_settings(specification: Specification) -> ScanSettings:
    """What every trial of a sweep is asked; all of them have one base."""
    return ScanSettings(
        k=specification.k,
        epsilon=specification.epsilon,
        dense_norms=True,
        keep_controls=specification.controls,
        map_size=SHOWN_VECTORS,
        expected=len(plan(specification)),
    )


def summary(scan: Scan) -> dict[str, Any]:
    """One scan as columns of the trials table."""
    return {**totals(scan.matrices), "k": scan.k, "epsilon": scan.epsilon, "notes": " ".join(scan.warnings)}


def trajectory_rows(watching: SpectraCallback | None, folder: TrialFolder) -> list[dict[str, Any]]:
    """What was found along the way, with the weights that were kept at the same steps."""
    kept = {step: str(weights.relative_to(folder.path)) for step, weights in folder.kept.items()}
    return [{**row, "weights": kept.get(row["step"], "")} for row in (watching.trajectory.rows if watching else [])]


def shown_matrix(matrices: tuple[MatrixPair, ...]) -> MatrixPair:
    """The matrix of the similarity map: the first attention matrix of the middle layer, the same in all trials."""
    layers = sorted({pair.name.layer for pair in matrices if pair.name.layer is not None})
    middle = [pair for pair in matrices if layers and pair.name.layer == layers[len(layers) // 2]] or list(matrices)
    return next((pair for pair in middle if pair.name.block == "attention"), middle[0])


def _update_rows(scan: Scan) -> Iterator[dict[str, Any]]:
    for matrix in scan.matrices:
        for index, value in enumerate(matrix.update_values):
            yield {"name": matrix.name, "index": index, "value": value}


def _control_rows(scan: Scan) -> Iterator[dict[str, Any]]:
    for matrix in scan.matrices:
        for control in matrix.controls:
            for verdict in control.vectors:
                row = {column: getattr(verdict, column) for column in OF_A_CONTROL}
                yield {"name": matrix.name, "control": control.null, **row}


def _similarity_rows(scan: Scan) -> Iterator[dict[str, Any]]:
    for name, grid in ((matrix.name, grid) for matrix in scan.matrices for grid in matrix.grids):
        for i, row in enumerate(grid.values):
            for j, cosine in enumerate(row):
                yield {"name": name, "i": i, "j": j, "cosine": cosine}
