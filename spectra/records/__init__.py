"""What a scan measured, as plain numbers: the catalogue of metrics and the frozen records. Imports no torch."""

from spectra.records.catalogue import DEFAULT_GROUPS, GROUPS, METRICS, Metric, MetricGroup, chosen_groups
from spectra.records.intruder_scan import IntruderScan, IntruderScans
from spectra.records.matrix_scan import LeadingVector, MatrixScan
from spectra.records.measures import Grid, Measure, NullLine
from spectra.records.scan import Scan
from spectra.records.scan_file import read_scan

__all__ = [
    "DEFAULT_GROUPS",
    "GROUPS",
    "METRICS",
    "Grid",
    "IntruderScan",
    "IntruderScans",
    "LeadingVector",
    "MatrixScan",
    "Measure",
    "Metric",
    "MetricGroup",
    "NullLine",
    "Scan",
    "chosen_groups",
    "read_scan",
]
