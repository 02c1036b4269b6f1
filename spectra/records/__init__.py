"""What a scan measured, as plain numbers: the catalogue of metrics and the frozen records. Imports no torch."""

from spectra.records.catalogue import DEFAULT_GROUPS, GROUPS, METRICS, Metric, chosen_groups
from spectra.records.measures import Grid, LeadingVector, MatrixMeasures, Measure, NullLine
from spectra.records.spectral_scan import SpectralScan, read_scan

__all__ = [
    "DEFAULT_GROUPS",
    "GROUPS",
    "METRICS",
    "Grid",
    "LeadingVector",
    "MatrixMeasures",
    "Measure",
    "Metric",
    "NullLine",
    "SpectralScan",
    "chosen_groups",
    "read_scan",
]
