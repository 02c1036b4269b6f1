"""From a run, a scan or several of them to a file."""

from collections.abc import Sequence
from pathlib import Path

from spectra.errors import RunError
from spectra.records import Scan
from spectra.records.comparison import Comparison
from spectra.report.index import folders_below, write_index
from spectra.report.inputs.beside import is_intervention
from spectra.report.inputs.material import Material
from spectra.report.inputs.sources import (
    SCAN_FILE,
    compared,
    comparison_material,
    distinct_names,
    joined,
    read_material,
    run_material,
    scan_material,
)
from spectra.report.page import render
from spectra.report.pages import page_of
from spectra.runs import Run
from spectra.storage.atomic import write_text
from spectra.storage.destinations import REPORT, adopt, require_file


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
    out = require_file(out, REPORT, force=True)
    write_text(out, render(page_of(run_material(run))))
    return out


def write_scan_report(scan: Scan, path: Path | str, *, command: str = "") -> Path:
    """Write the report of one scan, with the maps and curves that it kept.

    Args:
        scan: The verdicts and measures.
        path: Where to write.
        command: The command that makes the scan again.

    Returns:
        The path written to.
    """
    out = require_file(Path(path), REPORT, force=True)
    write_text(out, render(page_of(scan_material(scan, command))))
    return out


def write_comparison_report(comparison: Comparison, path: Path | str, *, command: str = "") -> Path:
    """Write the report of `spectra compare`: differences from the first checkpoint, and the overlap of the updates.

    Args:
        comparison: The scans and overlaps.
        path: Where to write.
        command: The command that makes the comparison again.

    Returns:
        The path written to.
    """
    out = require_file(Path(path), REPORT, force=True)
    write_text(out, render(page_of(comparison_material(comparison, command))))
    return out


def write_comparison(sources: Sequence[Path | str], path: Path | str, *, baseline: Path | str | None = None) -> Path:
    """Write the report that puts several run folders or scan files (`spectra intruders --json`) side by side.

    Folders of `spectra intervene` beside a single run are no comparison: its report then shows them too.

    Args:
        sources: Run folders, folders of `spectra intervene` or `spectra scan -o`, or scan files.
        path: Where to write.
        baseline: The source that the others are held against; the first if omitted.

    Raises:
        RunError: If a source is neither, fewer than two are given, or the baseline is none of them.
    """
    if len(sources) < 2:
        raise RunError(f"A comparison needs two runs or scans, not {len(sources)}. Name another one.")
    out = require_file(Path(path), REPORT, force=True, inputs=[Path(source) for source in sources])
    write_text(out, render(page_of(material_of(sources, baseline=baseline))))
    return out


def material_of(sources: Sequence[Path | str], *, baseline: Path | str | None = None) -> Material:
    """What one source holds, or what several are, taken together.

    Raises:
        RunError: If a source is none that a report can be made of, or the baseline is none of them.
    """
    paths = [Path(source) for source in sources]
    if len(paths) == 1:
        return read_material(paths[0])
    interventions = [path for path in paths if path.is_dir() and is_intervention(path)]
    others = [path for path in paths if path not in interventions]
    if len(others) == 1 and others[0].is_dir() and not (others[0] / SCAN_FILE).is_file():
        return joined(run_material(others[0]), interventions)
    names = distinct_names(paths)
    pinned = names[0]
    if baseline is not None:
        at = [place for place, path in enumerate(paths) if path.resolve() == Path(baseline).resolve()]
        if not at:
            raise RunError(f"The baseline '{baseline}' is none of the runs and scans. Name one of them.")
        pinned = names[at[0]]
    return compared([read_material(path) for path in paths], names, pinned)


def report_on(
    sources: Sequence[Path | str],
    out: Path | str | None = None,
    *,
    force: bool = False,
    baseline: Path | str | None = None,
) -> Path:
    """Write the report of one run, scan or intervention, of several together, or the index of a folder of runs.

    Args:
        sources: Run folders, folders of `spectra intervene` or `spectra scan -o`, scan files, or one folder of runs.
        out: Where to write; may be omitted for a single folder, whose own report.html or index.html is replaced freely.
        force: Replace `out` if it exists.
        baseline: Of several: the one that the others are held against; the first if omitted.

    Returns:
        The path written to.

    Raises:
        RunError: If `out` is missing where it is needed, or exists, or a source is none of these.
    """
    single = Path(sources[0]) if len(sources) == 1 else None
    if single is not None and single.is_dir() and folders_below(single) not in ([], [single]):
        return write_index(single, out, force=force)
    own = single / "report.html" if single is not None and single.is_dir() else None
    if out is None and own is None:
        raise RunError("Only the report of a single folder has a place of its own. Name the file with -o OUT.")
    path = own if out is None and own is not None else Path(str(out))
    free = force or (own is not None and path.resolve() == own.resolve())
    target = require_file(path, REPORT, force=free, inputs=[Path(source) for source in sources])
    if single is None:
        return write_comparison(sources, path, baseline=baseline)
    write_text(target, render(page_of(read_material(single))))
    if own is not None and path.resolve() == own.resolve():
        adopt(single, own.name)
    return path
