"""The run folder: the only room that knows its file names. Every write is atomic; no torch is imported."""

from spectra.runs.folder import BASE_TASK, Run
from spectra.runs.schema import BESIDE_RUNS, SCHEMAS, Column, completed, tidy
from spectra.runs.trial import TrialFolder, TrialState

__all__ = [
    "BASE_TASK",
    "BESIDE_RUNS",
    "SCHEMAS",
    "Column",
    "Run",
    "TrialFolder",
    "TrialState",
    "completed",
    "tidy",
]
