"""A fingerprint of a base: what tells it from another with the same names and shapes, read in milliseconds."""

import math
from collections.abc import Sequence
from pathlib import Path

from spectra.weights.formats.checkpoint import open_checkpoint
from spectra.weights.formats.hub import locate
from spectra.weights.formats.stored import StoredMatrix
from spectra.weights.matching.catalogue import Catalogue, catalogue
from spectra.weights.matching.names import canonical_names

MATRICES = 8
VALUES = 8

# One unit in the last place of bfloat16: a base saved again in half precision, even rounded twice, is the same base.
RELATIVE = 2.0**-7


def fingerprint(book: Catalogue) -> tuple[float, ...]:
    """The first few numbers of some matrices of the blocks, evenly spread over the canonical names.

    Numbers and not a hash, so that a base saved again in half precision is still recognised.
    """
    names = canonical_names(list(book.matrices))
    blocks = sorted((name.canonical, module) for module, name in names.items() if name.layer is not None)
    return first_values([book.matrices[module] for _, module in blocks])


def first_values(matrices: Sequence[StoredMatrix]) -> tuple[float, ...]:
    """The first numbers of at most eight of some matrices, evenly spread."""
    floating = [matrix for matrix in matrices if matrix.dtype.is_floating_point]
    step = max(1, len(floating) // MATRICES)
    return tuple(float(value) for matrix in floating[::step][:MATRICES] for value in matrix.first(VALUES).float())


def same_base(one: Sequence[float], other: Sequence[float]) -> bool:
    """True when two fingerprints agree to the rounding of bfloat16."""
    return len(one) == len(other) and all(
        abs(a - b) <= RELATIVE * max(abs(a), abs(b)) for a, b in zip(one, other, strict=True)
    )


def resemblance(one: Sequence[float], other: Sequence[float]) -> float:
    """Cosine of two fingerprints: near 1 for a base and what was tuned from it, near 0 for strangers."""
    norms = math.hypot(*one) * math.hypot(*other)
    return sum(a * b for a, b in zip(one, other, strict=True)) / norms if norms > 0 else 1.0


def base_fingerprint(base: str | Path, revision: str | None = None, *, allow_pickle: bool = False) -> tuple[float, ...]:
    """The fingerprint of a checkpoint on disk or in the hub's cache.

    Raises:
        CheckpointError: If it cannot be read.
    """
    return fingerprint(catalogue(open_checkpoint(locate(base, revision, role="base"), allow_pickle=allow_pickle)))
