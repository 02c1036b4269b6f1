"""Sweeps: paired, resumable, on one machine or in shares."""

from spectra.sweep.execution.schedule import Event
from spectra.sweep.spec.plan import PlannedTrial, plan
from spectra.sweep.spec.read import presets, read_specification
from spectra.sweep.spec.specification import Specification
from spectra.sweep.sweep import run_sweep

__all__ = ["Event", "PlannedTrial", "Specification", "plan", "presets", "read_specification", "run_sweep"]
