"""A plan of a training that was not run yet: the pilot, what it lets expect, and the files for peft and for a sweep."""

from spectra.advice.planning.plan import plan
from spectra.advice.planning.records import TrainingPlan

__all__ = ["TrainingPlan", "plan"]
