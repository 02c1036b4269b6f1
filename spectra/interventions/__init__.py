"""Interventions on singular directions: scale, remove, shrink; the controls; the mitigated adapter."""

from spectra.interventions.choice import chosen_directions
from spectra.interventions.controls import neighbours, norm_matched_shrink, random_directions, stand_ins
from spectra.interventions.directions import leading_triplets, scaled_directions, truncated
from spectra.interventions.in_place import edited
from spectra.interventions.mitigation import mitigate
from spectra.interventions.outcome import Mitigation, TreatedMatrix

__all__ = [
    "Mitigation",
    "TreatedMatrix",
    "chosen_directions",
    "edited",
    "leading_triplets",
    "mitigate",
    "neighbours",
    "norm_matched_shrink",
    "random_directions",
    "scaled_directions",
    "stand_ins",
    "truncated",
]
