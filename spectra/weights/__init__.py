"""Checkpoints as matrices: names first, one matrix in memory at a time, always (d_out, d_in)."""

from spectra.weights.names import MatrixName
from spectra.weights.opening import open_pair
from spectra.weights.pair import CheckpointPair, MatrixPair
from spectra.weights.stored import StoredMatrix

__all__ = ["CheckpointPair", "MatrixName", "MatrixPair", "StoredMatrix", "open_pair"]
