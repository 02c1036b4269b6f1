"""A scan from the command line: with progress, and with what is done after Ctrl-C."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spectra.cli.progress import parts_progress
from spectra.cli.terminal import echo, warn

if TYPE_CHECKING:
    from spectra.records import Scan

ray_option = click.option(
    "--ray", metavar="auto|ADDRESS", help="Spread the matrices over a Ray cluster; ADDRESS is HOST:PORT."
)


def scanned(
    checkpoints: Sequence[str],
    base: str | None,
    question: Mapping[str, Any],
    opening: Mapping[str, Any],
    *,
    cache: bool,
    ray: str | None,
    quiet: bool,
) -> "tuple[list[Scan], bool]":
    """Scan with progress.

    Args:
        checkpoints: As they were named.
        base: Their base; None for the one that they name.
        question: Fields of `ScanSettings`.
        opening: Further keywords of `open_pair`.
        cache: Keep factors, simulations and, until the scan is complete, what is done.
        ray: The cluster that scans, if not this process.
        quiet: No progress.

    Returns:
        The scans, and whether Ctrl-C ended them: what is done stays usable.
    """
    from spectra.engine.cache import FactorCache
    from spectra.scanning.scan import Interrupted, scan_checkpoints
    from spectra.scanning.settings import ScanSettings

    spread = None
    if ray is not None:
        from spectra.cluster import SpreadScan

        spread = SpreadScan(ray)
    settings, kept = ScanSettings(**question), FactorCache() if cache else None
    try:
        with parts_progress("scanning", quiet=quiet) as progress:
            scans = scan_checkpoints(
                checkpoints, base, settings, cache=kept, progress=progress, spread=spread, **opening
            )  # fmt: skip
    except Interrupted as interrupted:
        again = " Run the same command to continue." if interrupted.resumes else ""
        done = sum(len(scan.matrices) for scan in interrupted.scans)
        echo(f"Interrupted after {done} matrices.{again}", err=True)
        return interrupted.scans, True
    return scans, False


def write_html(scan: "Scan", path: Path) -> None:
    """The report of one scan; several checkpoints are compared with `spectra compare --html`."""
    from spectra.records.provenance import command_line
    from spectra.report import write_scan_report

    echo(f"Report: {write_scan_report(scan, path, command=command_line())}", err=True)


def tell_warnings(scans: "Sequence[Scan]") -> None:
    """What a reader of the numbers has to know, on stderr."""
    for scan in scans:
        warn(scan.warnings)
