"""The spectral part of a sweep: a trial's checkpoint against the published W0, as rows of the tables."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spectra.records.intruder_scan import IntruderScan, totals
from spectra.runs import TrialFolder
from spectra.scanning.nulls.control_verdicts import control_verdicts
from spectra.scanning.scan import intruders
from spectra.scanning.settings import ScanSettings
from spectra.scanning.similarity import similarity
from spectra.sweep.spec.specification import Specification
from spectra.training.callback import SpectraCallback
from spectra.weights import MatrixPair, open_pair

SHOWN_VECTORS = 32
CONTROL_SEED = 0
OF_A_CONTROL = ("index", "singular_value", "max_cosine", "is_intruder", "lower", "upper")


def scan_trial(folder: TrialFolder, weights: Path, base: str, specification: Specification) -> dict[str, Any]:
    """Scan a trained checkpoint, write its rows, and sum them up.

    Returns:
        Columns of the trials table.
    """
    scan = intruders(weights, base, k=specification.k, epsilon=specification.epsilon, dense_norms=True)
    folder.write_rows("matrices", scan.matrix_rows())
    folder.write_rows("vectors", scan.vector_rows())
    folder.write_rows("update_spectra", _update_rows(scan))
    matrices = open_pair(base, weights).matrices
    folder.write_rows("controls", _control_rows(matrices, specification) if specification.controls else [])
    folder.write_rows("similarity", _similarity_rows(shown_matrix(matrices)))
    return summary(scan)


def summary(scan: IntruderScan) -> dict[str, Any]:
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


def _update_rows(scan: IntruderScan) -> Iterator[dict[str, Any]]:
    for matrix in scan.matrices:
        for index, value in enumerate(matrix.update_values):
            yield {"name": matrix.name, "index": index, "value": value}


def _control_rows(matrices: tuple[MatrixPair, ...], specification: Specification) -> Iterator[dict[str, Any]]:
    settings = ScanSettings(k=specification.k, epsilon=specification.epsilon)
    for pair in matrices:
        for control, verdicts in control_verdicts(pair, settings, seed=CONTROL_SEED):
            for verdict in verdicts:
                row = {column: getattr(verdict, column) for column in OF_A_CONTROL}
                yield {"name": str(pair.name), "control": control, **row}


def _similarity_rows(pair: MatrixPair) -> Iterator[dict[str, Any]]:
    for i, row in enumerate(similarity(pair, top=SHOWN_VECTORS)):
        for j, cosine in enumerate(row):
            yield {"name": str(pair.name), "i": i, "j": j, "cosine": float(cosine)}
