"""What a tuned model no longer does as well: held-out measures, and paired differences with their intervals."""

from spectra.forgetting.held_out import HeldOut, open_held_out
from spectra.forgetting.measure import measure, measure_all, register_measure
from spectra.forgetting.pseudo_loss import under_pretrained_head
from spectra.forgetting.run import ForgettingRun, measure_forgetting
from spectra.statistics.paired import Forgetting, forgetting
from spectra.statistics.scores import Scores

__all__ = [
    "Forgetting",
    "ForgettingRun",
    "HeldOut",
    "Scores",
    "forgetting",
    "measure",
    "measure_all",
    "measure_forgetting",
    "open_held_out",
    "register_measure",
    "under_pretrained_head",
]
