"""Checkpoints as matrices: names first, one matrix in memory at a time, always (d_out, d_in)."""

from spectra.weights.fingerprint import base_fingerprint
from spectra.weights.formats.stored import StoredMatrix
from spectra.weights.matching.names import MatrixName
from spectra.weights.opening import open_pair
from spectra.weights.origin import Origin, read_origin
from spectra.weights.pair import CheckpointPair, MatrixPair
from spectra.weights.write import write_adapter, write_full_checkpoint

__all__ = [
    "CheckpointPair",
    "MatrixName",
    "MatrixPair",
    "Origin",
    "StoredMatrix",
    "base_fingerprint",
    "open_pair",
    "read_origin",
    "write_adapter",
    "write_full_checkpoint",
]
