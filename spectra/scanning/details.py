"""The pictures behind the counts: similarity maps and leading spectra of chosen matrices, for the report."""

from collections.abc import Sequence

import pandas as pd
import torch

from spectra.linalg.svd import SVD, low_rank_svd, thin_svd
from spectra.scanning.settings import ScanSettings
from spectra.weights import MatrixPair

TOP = 16
SPECTRUM = 64
# Beyond this size a full factorisation per picture is too slow to be worth it.
LARGEST = 2048


def matrix_details(matrices: Sequence[MatrixPair], settings: ScanSettings) -> dict[str, pd.DataFrame]:
    """Tidy tables for `report.write_scan_report`.

    Args:
        matrices: The matrices to picture; larger ones than `LARGEST` are left out.
        settings: Device of the factorisations.

    Returns:
        "similarity" (name, i, j, cosine): |cos| of the leading left vectors of W0 and W_tuned; "spectra" (name,
        kind, index, value): their leading singular values and those of delta_W.
    """
    similarity: list[dict[str, object]] = []
    spectra: list[dict[str, object]] = []
    for pair in matrices:
        if min(pair.shape) > LARGEST:
            continue
        W0, W = pair.W0.load(device=settings.device), pair.W_tuned(torch.float32, settings.device)
        base, tuned = thin_svd(W0), thin_svd(W)
        update = pair.update(torch.float32, settings.device)
        delta = low_rank_svd(update.B, update.A, update.scaling) if update is not None else thin_svd(W - W0)
        name = str(pair.name)
        cosines = (base.U[:, :TOP].mH @ tuned.U[:, :TOP]).abs().clamp(max=1.0).tolist()
        similarity += [
            {"name": name, "i": i, "j": j, "cosine": cosine}
            for i, row in enumerate(cosines)
            for j, cosine in enumerate(row)
        ]
        spectra += [
            row
            for kind, svd in (("W0", base), ("W_tuned", tuned), ("delta_W", delta))
            for row in _rows(name, kind, svd)
        ]
    return {"similarity": pd.DataFrame(similarity), "spectra": pd.DataFrame(spectra)}


def _rows(name: str, kind: str, svd: SVD) -> list[dict[str, object]]:
    values = svd.S[:SPECTRUM].tolist()
    return [{"name": name, "kind": kind, "index": index, "value": value} for index, value in enumerate(values)]
