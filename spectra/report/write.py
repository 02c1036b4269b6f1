"""From a run, a scan or several of them to a file."""

from collections.abc import Sequence
from pathlib import Path

from spectra.errors import RunError
from spectra.records import Scan
from spectra.report.inputs.beside import is_intervention
from spectra.report.inputs.sources import Material, compared, joined, read_material, run_material, scan_material
from spectra.report.page import Page, render
from spectra.report.pages import intervention_page, scan_page, trials_page
from spectra.runs import Run
from spectra.storage.atomic import write_text
from spectra.storage.destinations import REPORT, require_file


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
    write_text(out, render(trials_page(run_material(run))))
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
    write_text(out, render(scan_page(scan_material(scan, command))))
    return out


def write_comparison(sources: Sequence[Path | str], path: Path | str) -> Path:
    """Write the report that puts several run folders or scan files (`spectra intruders --json`) side by side.

    Folders of `spectra intervene` beside a single run are no comparison: its report then shows them too.

    Raises:
        RunError: If a source is neither, or fewer than two are given.
    """
    if len(sources) < 2:
        raise RunError(f"A comparison needs two runs or scans, not {len(sources)}. Name another one.")
    out = require_file(Path(path), REPORT, force=True, inputs=[Path(source) for source in sources])
    write_text(out, render(_page(_together([Path(source) for source in sources]))))
    return out


def _together(sources: Sequence[Path]) -> Material:
    """What several sources are, taken together."""
    interventions = [source for source in sources if source.is_dir() and is_intervention(source)]
    others = [source for source in sources if source not in interventions]
    if len(others) == 1 and others[0].is_dir():
        return joined(run_material(others[0]), interventions)
    return compared([read_material(source) for source in sources], distinct_names(sources))


def _page(material: Material) -> Page:
    return {"scan": scan_page, "intervention": intervention_page}.get(material.kind, trials_page)(material)


def report_on(sources: Sequence[Path | str], out: Path | str | None = None, *, force: bool = False) -> Path:
    """Write the report of one run, scan or intervention, or of several together, as `spectra report` does.

    Args:
        sources: Run folders, folders of `spectra intervene`, or scan files.
        out: Where to write; may be omitted for a single folder, whose own report.html is replaced freely.
        force: Replace `out` if it exists.

    Returns:
        The path written to.

    Raises:
        RunError: If `out` is missing where it is needed, or exists, or a source is none of these.
    """
    single = Path(sources[0]) if len(sources) == 1 else None
    own = single / "report.html" if single is not None and single.is_dir() else None
    if out is None and own is None:
        raise RunError("Only the report of a single folder has a place of its own. Name the file with -o OUT.")
    path = own if out is None and own is not None else Path(str(out))
    free = force or (own is not None and path.resolve() == own.resolve())
    target = require_file(path, REPORT, force=free, inputs=[Path(source) for source in sources])
    if single is None:
        return write_comparison(sources, path)
    write_text(target, render(_page(read_material(single))))
    return path


def distinct_names(sources: Sequence[Path | str]) -> list[str]:
    """The shortest ends of the paths that tell them apart; a path given twice is numbered."""
    parts = [Path(source).resolve().with_suffix("").parts for source in sources]
    for length in range(1, max(len(one) for one in parts) + 1):
        names = ["/".join(one[-length:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{'/'.join(one[-2:])} ({number})" for number, one in enumerate(parts, start=1)]
