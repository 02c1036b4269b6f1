"""Checkpoints as matrices: names first, one matrix in memory at a time, always (d_out, d_in)."""

from spectra.weights.fingerprint import base_fingerprint
from spectra.weights.formats.stored import StoredMatrix
from spectra.weights.matching.names import MatrixName
from spectra.weights.opening import open_pair
from spectra.weights.origin import Origin, read_origin
from spectra.weights.pair import CheckpointPair, MatrixPair
from spectra.weights.verification import Verification, verify_checkpoint
from spectra.weights.write import write_adapter, write_full_checkpoint

__all__ = [
    "CheckpointPair",
    "MatrixName",
    "MatrixPair",
    "Origin",
    "StoredMatrix",
    "Verification",
    "base_fingerprint",
    "open_pair",
    "read_origin",
    "verify_checkpoint",
    "write_adapter",
    "write_full_checkpoint",
]
