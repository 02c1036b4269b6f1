"""What a scan measured, as plain numbers: the catalogue of metrics and the frozen records. Imports no torch."""

from spectra.measures.catalogue import DEFAULT_GROUPS, GROUPS, METRICS, Metric, chosen_groups
from spectra.measures.records import Grid, LeadingVector, MatrixMeasures, Measure, NullLine
from spectra.measures.scan import SpectralScan, read_scan

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
