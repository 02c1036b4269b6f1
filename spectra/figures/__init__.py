"""Figures for papers and notebooks: one function per figure, tidy tables or arrays in, a matplotlib Figure out."""

from spectra.figures.curves import count_against_epsilon, intervention_curve, spectrum
from spectra.figures.export import write_figures
from spectra.figures.interventions import trade_off
from spectra.figures.maps import layer_map, similarity_matrix
from spectra.figures.scatter import forgetting_scatter
from spectra.figures.trajectory import training_trajectory

__all__ = [
    "count_against_epsilon",
    "forgetting_scatter",
    "intervention_curve",
    "layer_map",
    "similarity_matrix",
    "spectrum",
    "trade_off",
    "training_trajectory",
    "write_figures",
]
