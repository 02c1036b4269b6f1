"""The index of a folder of runs: one row per run with the figures of its first screen, linked to its report."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from spectra.errors import RunError, SpectraError
from spectra.report.inputs.beside import MARKER
from spectra.report.inputs.material import Material
from spectra.report.inputs.sources import SCAN_FILE, read_material
from spectra.report.page import Page, Section, render
from spectra.report.pages import page_of
from spectra.report.tables.html_tables import ABSENT, Cell, Column, HtmlTable, text
from spectra.report.text.findings import findings
from spectra.report.tiles import Tile, tiles
from spectra.storage.atomic import write_text
from spectra.storage.destinations import REPORT, RUN_MARKER, require_file

DEPTH = 4
MARKS = (RUN_MARKER, SCAN_FILE, MARKER)
HEADINGS = ("Task score", "Forgetting", "Intruder dimensions", "Relative norm of the update")


@dataclass(frozen=True)
class Entry:
    """One run, scan or intervention of the folder.

    Attributes:
        folder: Where it lies.
        material: What it holds; None where it cannot be read.
        error: Why not.
    """

    folder: Path
    material: Material | None
    error: str = ""


def folders_below(folder: Path) -> list[Path]:
    """The folders with something to report on, at most `DEPTH` levels down; nothing inside such a folder is another."""
    return sorted(_below(folder, DEPTH))


def _below(folder: Path, depth: int) -> Iterator[Path]:
    if any((folder / mark).is_file() for mark in MARKS):
        yield folder
    elif depth:
        for entry in sorted(folder.iterdir()):
            if entry.is_dir() and not entry.is_symlink() and not entry.name.startswith("."):
                yield from _below(entry, depth - 1)


def write_index(folder: Path | str, path: Path | str | None = None, *, force: bool = False) -> Path:
    """Write the index of a folder of runs, and the reports that it links to and that are missing or older than a run.

    Args:
        folder: The folder.
        path: Where to write; index.html in the folder if omitted.
        force: Replace another report that stands there.

    Returns:
        The path written to.

    Raises:
        RunError: If there is nothing below the folder to report on.
    """
    folder = Path(folder)
    out = folder / "index.html" if path is None else Path(path)
    out = require_file(out, REPORT, force=force or path is None)
    found = folders_below(folder)
    if not found:
        raise RunError(f"'{folder}' is no run folder, and holds none. Name a folder of `spectra sweep` or `scan -o`.")
    entries = [_read(one) for one in found]
    for entry in entries:
        report = entry.folder / "report.html"
        if entry.material is not None and _is_stale(entry.folder, report):
            write_text(require_file(report, REPORT, force=True), render(page_of(entry.material)))
    write_text(out, render(_page(folder, out, entries)))
    return out


def _read(folder: Path) -> Entry:
    try:
        return Entry(folder, read_material(folder))
    except SpectraError as error:
        return Entry(folder, None, str(error))


def _is_stale(folder: Path, report: Path) -> bool:
    """Whether a run has no report, or one of before its tables were written."""
    sources = [*folder.glob("tables/*"), *folder.glob("interventions/**/*.parquet"), *(folder / mark for mark in MARKS)]
    times = [source.stat().st_mtime for source in sources if source.is_file()]
    return not report.is_file() or report.stat().st_mtime < max(times, default=0.0)


def _page(folder: Path, out: Path, entries: list[Entry]) -> Page:
    unread = [f"'{entry.folder}' cannot be read: {entry.error}" for entry in entries if entry.material is None]
    name = folder.resolve().name
    plural = "" if len(entries) == 1 else "s"
    return Page(
        title=f"Runs in {name}",
        kind="index of runs",
        findings=(f"{len(entries)} run{plural} and scan{plural}, each with its own report.",),
        warnings=unread,
        first=Section("first", "", tables=(_table(folder, out, entries),)),
        sections=(),
    )


def _table(folder: Path, out: Path, entries: list[Entry]) -> HtmlTable:
    columns = (text("Report"), text("About"), *(Column(heading, str) for heading in HEADINGS), text("Verdict"))
    rows = tuple(_row(folder, out, entry, entry.material) for entry in entries if entry.material is not None)
    return HtmlTable("runs", "The configuration in focus of every run, beside its control", columns, rows)


def _row(folder: Path, out: Path, entry: Entry, material: Material) -> tuple[Cell, ...]:
    name = str(entry.folder.relative_to(folder)) if entry.folder != folder else folder.resolve().name
    link = os.path.relpath((entry.folder / "report.html").resolve(), out.resolve().parent)
    shown = tiles(material)
    said = findings(material).headline
    figures = (_figure(shown, heading) for heading in HEADINGS)
    return (
        Cell(name, link=quote(Path(link).as_posix())),
        Cell(material.title),
        *figures,
        Cell(said[0] if said else ABSENT),
    )


def _figure(shown: tuple[Tile, ...], heading: str) -> Cell:
    """The first figure of the tile with this heading."""
    for tile in shown:
        if tile.heading.startswith(heading):
            entry = tile.entries[0]
            control = f" ({entry.note})" if heading.startswith("Intruder") else ""
            return Cell(f"{entry.value}{control}", is_number=True)
    return Cell(ABSENT, is_number=True)
