"""Advice that follows from a trained checkpoint: which rank, which alpha, which layers; and its verification."""

from spectra.advice.advise import AdviceSettings, advise
from spectra.advice.planning import TrainingPlan, plan
from spectra.advice.records import Advice, CriticalScale, MatrixAdvice, Verification
from spectra.advice.verify import verify_advice, verifying

__all__ = [
    "Advice",
    "AdviceSettings",
    "CriticalScale",
    "MatrixAdvice",
    "TrainingPlan",
    "Verification",
    "advise",
    "plan",
    "verify_advice",
    "verifying",
]
