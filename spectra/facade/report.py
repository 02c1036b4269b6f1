"""`spectra.write_report`: the HTML report of a run, an intervention or a scan, or of several together."""

from collections.abc import Sequence
from pathlib import Path

from spectra.errors import RunError
from spectra.records.comparison import Comparison
from spectra.records.scan import Scan
from spectra.report import material_of, report_on, sender, write_comparison_report, write_scan_report
from spectra.storage.destinations import REPORT, require_file


def write_report(
    sources: str | Path | Scan | Comparison | Sequence[str | Path],
    out: str | Path | None = None,
    *,
    force: bool = False,
    baseline: str | Path | None = None,
    trackers: Sequence[str] = (),
    command: str = "",
) -> Path:
    """Write one HTML file that opens offline.

    Args:
        sources: A run folder, a folder of `spectra intervene` or `spectra scan -o`, or the JSON file of a scan; several
            of them, compared in one report; a folder of runs, which gets an index; or a scan (made with `pictures=True`
            where its maps are to be shown) or a comparison itself.
        out: Where to write; may be omitted for a single folder, whose own report.html is replaced freely.
        force: Replace `out` if it exists.
        baseline: The source that the others are compared with; by default the first.
        trackers: Where the figures go as well, with the page attached: "tensorboard:FOLDER", "wandb:PROJECT"; for
            folders and files alone.
        command: The command that makes a scan or a comparison again, for the report.

    Returns:
        The path written to.

    Raises:
        RunError: If `out` is missing where it is needed, a source is none of these, or a tracker cannot be used.
        DestinationError: If `out` exists and `force` is not given.

    Example:
        >>> spectra.write_report(spectra.intruders(adapter, k=4), folder / "scan.html").name
        'scan.html'
    """
    if not isinstance(sources, Scan | Comparison):
        several = [sources] if isinstance(sources, str | Path) else list(sources)
        senders = [sender(tracker) for tracker in trackers]
        page = report_on(several, out, force=force, baseline=baseline)
        if senders:
            material = material_of([Path(source) for source in several], baseline=baseline)
            for send in senders:
                send(material, page)
        return page
    if out is None:
        raise RunError("A result has no folder whose report it could be. Name the file with `out`.")
    target = require_file(Path(out), REPORT, force=force)
    if isinstance(sources, Comparison):
        return write_comparison_report(sources, target, command=command)
    return write_scan_report(sources, target, command=command)
