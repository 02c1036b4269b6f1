"""Interventions on singular directions: scale, remove, shrink; the controls; the mitigated adapter."""

from spectra.interventions.arms import CONTROLS
from spectra.interventions.controls import neighbours, norm_matched_shrink, random_directions, stand_ins
from spectra.interventions.direction_selection import selected_directions
from spectra.interventions.directions import leading_triplets, scaled_directions, truncated
from spectra.interventions.experiment import Experiment
from spectra.interventions.in_place import edited
from spectra.interventions.intervene import LAMBDAS, experiment
from spectra.interventions.intervention_run import Contrast, InterventionRow, InterventionRun
from spectra.interventions.mitigation import write_mitigated
from spectra.interventions.outcome import MitigatedMatrix, Mitigation
from spectra.interventions.own_task import OwnTask, on_validation

__all__ = [
    "CONTROLS",
    "LAMBDAS",
    "Contrast",
    "Experiment",
    "InterventionRow",
    "InterventionRun",
    "MitigatedMatrix",
    "Mitigation",
    "OwnTask",
    "edited",
    "experiment",
    "leading_triplets",
    "neighbours",
    "norm_matched_shrink",
    "on_validation",
    "random_directions",
    "scaled_directions",
    "selected_directions",
    "stand_ins",
    "truncated",
    "write_mitigated",
]
