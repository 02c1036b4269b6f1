"""From a run, a scan or several of them to a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spectra.errors import RunError
from spectra.records import IntruderScan
from spectra.report.page import render
from spectra.report.pages import scan_page, trials_page
from spectra.report.sources import compared, read_material, read_scan, run_material, scan_material
from spectra.runs import Run
from spectra.runs.atomic import write_text

if TYPE_CHECKING:
    import pandas as pd


def write_report(run: Path | str, path: Path | str | None = None) -> Path:
    """Write the report of a run folder.

    Args:
        run: The run folder.
        path: Where to write; the run's own report.html if omitted, which is replaced freely.

    Returns:
        The path written to.

    Raises:
        RunError: If the folder is no run, or lacks a table.
    """
    out = Run.open(run).report if path is None else Path(path)
    write_text(out, render(trials_page(run_material(run))))
    return out


def write_scan_report(
    scan: IntruderScan,
    path: Path | str,
    *,
    details: "Mapping[str, pd.DataFrame] | None" = None,
    command: str = "",
) -> Path:
    """Write the report of one scan.

    Args:
        scan: The verdicts.
        path: Where to write.
        details: Optional curves and maps behind the verdicts, each a tidy table:
            "similarity" with columns name, i (pre-trained vector), j (tuned vector), cosine;
            "spectra" with columns name, kind ("W0", "W_tuned" or "delta_W"), index, value.
        command: The command that makes the scan again.

    Returns:
        The path written to.
    """
    out = Path(path)
    write_text(out, render(scan_page(scan_material(scan, details, command))))
    return out


def write_comparison(sources: Sequence[Path | str], path: Path | str) -> Path:
    """Write the report that puts several run folders or scan files (`spectra intruders --json`) side by side.

    Raises:
        RunError: If a source is neither, or fewer than two are given.
    """
    if len(sources) < 2:
        raise RunError(f"A comparison needs two runs or scans, not {len(sources)}. Name another one.")
    materials = [read_material(source) for source in sources]
    out = Path(path)
    write_text(out, render(trials_page(compared(materials, distinct_names(sources)))))
    return out


def report_on(sources: Sequence[Path | str], out: Path | str | None = None, *, force: bool = False) -> Path:
    """Write the report of one run or scan, or the comparison of several, as `spectra report` does.

    Args:
        sources: Run folders or scan files.
        out: Where to write; may be omitted for a single run folder, whose own report.html is replaced freely.
        force: Replace `out` if it exists.

    Returns:
        The path written to.

    Raises:
        RunError: If `out` is missing where it is needed, or exists, or a source is neither run nor scan.
    """
    single = Path(sources[0]) if len(sources) == 1 else None
    own = Run(single).report if single is not None and single.is_dir() else None
    if out is None:
        if own is None:
            raise RunError("Only the report of a single run folder has a place of its own. Name the file with -o OUT.")
        return write_report(own.parent)
    path = Path(out)
    if path.exists() and not force and (own is None or path.resolve() != own.resolve()):
        raise RunError(f"'{path}' exists. Add --force to replace it, or choose another name.")
    if single is None:
        return write_comparison(sources, path)
    return write_report(single, path) if own else write_scan_report(read_scan(single), path)


def distinct_names(sources: Sequence[Path | str]) -> list[str]:
    """The shortest ends of the paths that tell them apart; a path given twice is numbered."""
    parts = [Path(source).resolve().with_suffix("").parts for source in sources]
    for length in range(1, max(len(one) for one in parts) + 1):
        names = ["/".join(one[-length:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{'/'.join(one[-2:])} ({number})" for number, one in enumerate(parts, start=1)]
