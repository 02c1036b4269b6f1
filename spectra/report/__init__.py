"""Runs, scans and comparisons as one HTML file each that opens offline. Imports no torch."""

from spectra.report.surgery_page import write_surgery_report
from spectra.report.write import report_on, write_comparison, write_report, write_scan_report

__all__ = ["report_on", "write_comparison", "write_report", "write_scan_report", "write_surgery_report"]
