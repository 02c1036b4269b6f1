"""Figures of a whole checkpoint from those of its matrices."""

import math
from collections.abc import Sequence
from typing import Any

from spectra.records.matrix_scan import MatrixScan


def totals(matrices: Sequence[MatrixScan]) -> dict[str, Any]:
    """A whole checkpoint in the columns that tables of trials and of training steps share.

    Counts and squared norms are summed over matrices, the energy share and the effective rank averaged:

        update_frobenius = sqrt(sum ||delta_W||_F^2)        update_relative = update_frobenius / sqrt(sum ||W0||_F^2)

    A norm is absent where one of the matrices lacks its own, or, for the ratio, where ||W0||_F of one is unknown.
    """
    whole: dict[str, Any] = {
        "count": sum(matrix.count for matrix in matrices),
        "matrices": len(matrices),
        "energy_share": sum(matrix.energy_share for matrix in matrices) / max(1, len(matrices)),
    }
    updates = [matrix.update for matrix in matrices if matrix.update is not None]
    if not updates or len(updates) < len(matrices):
        return whole
    frobenius = math.hypot(*(update.frobenius for update in updates))
    whole["update_frobenius"] = frobenius
    whole["effective_rank"] = math.fsum(update.effective_rank for update in updates) / len(updates)
    sizes = [size for matrix in matrices if (size := base_frobenius(matrix)) is not None]
    if len(sizes) == len(matrices) and any(sizes):
        whole["update_relative"] = frobenius / math.hypot(*sizes)
    return whole


def base_frobenius(matrix: MatrixScan) -> float | None:
    """||W0||_F: as it was measured, or what the norms of a tuned matrix imply."""
    known = matrix.base_frobenius if matrix.base_frobenius is not None else matrix.value("base.frobenius")
    if known is not None or matrix.update is None or not matrix.update.relative:
        return known
    return matrix.update.frobenius / matrix.update.relative


def ratio_of_norms(ratios: Sequence[float], sizes: Sequence[float | None]) -> float | None:
    """The ratio of two norms over all matrices:  sqrt(sum (ratio_i size_i)^2) / sqrt(sum size_i^2).

    None where a size is not known.
    """
    known = [size for size in sizes if size is not None]
    if len(known) < len(ratios) or not any(known):
        return None
    return math.hypot(*(ratio * size for ratio, size in zip(ratios, known, strict=True))) / math.hypot(*known)
