"""Runs, scans and comparisons as one HTML file each that opens offline. Imports no torch."""

from spectra.report.cases import cases, scan_case
from spectra.report.index import write_index
from spectra.report.model_card import model_card
from spectra.report.surgery_page import write_surgery_report
from spectra.report.trackers import sender
from spectra.report.write import (
    material_of,
    report_on,
    write_comparison,
    write_comparison_report,
    write_report,
    write_scan_report,
)

__all__ = [
    "cases",
    "material_of",
    "model_card",
    "report_on",
    "scan_case",
    "sender",
    "write_comparison",
    "write_comparison_report",
    "write_index",
    "write_report",
    "write_scan_report",
    "write_surgery_report",
]
