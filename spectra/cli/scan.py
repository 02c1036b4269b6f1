"""`spectra scan`: every spectral measure of a checkpoint, beside what chance would give."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spectra.cli.destinations import FolderDestination, WritingCommand
from spectra.cli.options import (
    QUESTION,
    checkpoint_options,
    definition_options,
    engine_options,
    quiet_option,
    selection_options,
    stacked,
)
from spectra.cli.output import Output, output_options
from spectra.cli.progress import parts_progress
from spectra.cli.scan_output import print_scan, write_folder
from spectra.cli.terminal import echo, warn

if TYPE_CHECKING:
    from spectra.forgetting import HeldOut
    from spectra.records import SpectralScan
    from spectra.scanning.survey import PartialSurvey

measure_options = stacked(
    click.option(
        "--metrics",
        default="intruders,update,alignment,base,nulls",
        show_default=True,
        help="Groups to measure: these, tails (slow), or all; ranks is another name for update.",
    ),
    click.option("--seed", type=int, default=0, show_default=True, help="Of every simulated control and estimate."),
    click.option(
        "--draws", type=click.IntRange(min=1), default=1, show_default=True, help="Simulations of each random control."
    ),
    click.option(
        "--exact", is_flag=True, help="Compute all singular values of large matrices; by default sums are estimated."
    ),
)


@click.command(
    cls=WritingCommand, epilog="Example:  spectra scan my-adapter --base roberta-base --metrics intruders,ranks,nulls"
)
@click.argument("checkpoint", metavar="CKPT")
@checkpoint_options
@measure_options
@definition_options
@selection_options
@engine_options
@output_options("matrix, metric and side")
@click.option("--texts", metavar="TASK", help="Also the drift of outputs on these texts: asset task or file.")
@click.option("--text-limit", type=click.IntRange(min=1), default=256, show_default=True, help="Texts at most.")
@click.option("-o", "--out", type=FolderDestination("scan", "whole"), help="Also write every table here.")
@quiet_option
def command(
    checkpoint: str,
    base: str | None,
    memory: int | None,
    cache: bool,
    output: Output,
    out: Path | None,
    texts: str | None,
    text_limit: int,
    quiet: bool,
    **options: Any,
) -> None:
    """Measure what fine-tuning did to the spectra of a checkpoint.

    CKPT is a peft adapter folder or a full checkpoint (folder, file or hub id). One pass over its matrices gives
    intruder dimensions, norms and ranks of the update, alignment with the base, and the base's own spectrum, each
    number beside controls: the rounding of storage, dense noise and a random update of the same norm and rank.
    """
    task = opened_texts(texts, text_limit)
    partial = prepared(checkpoint, base, {"memory_bytes": memory}, options, cache=cache)
    interrupted = run(partial, quiet=quiet)
    scan = partial.record()
    if task is not None and not interrupted:
        scan = on_texts(partial, scan, task, str(texts), quiet=quiet)
    emit(scan, output, out)
    if interrupted:
        sys.exit(130)


def prepared(
    checkpoint: str, base: str | None, question: dict[str, Any], options: dict[str, Any], *, cache: bool
) -> "PartialSurvey":
    """Open the checkpoint beside its base and lay out the scan."""
    from spectra.engine.cache import FactorCache
    from spectra.records import chosen_groups
    from spectra.scanning.settings import ScanSettings
    from spectra.scanning.survey import PartialSurvey
    from spectra.scanning.survey_settings import SurveySettings
    from spectra.weights import open_pair

    scan = ScanSettings(**question, **{name: options.pop(name) for name in QUESTION})
    groups = chosen_groups(options.pop("metrics"))
    settings = SurveySettings(scan, groups, options.pop("seed"), options.pop("draws"), options.pop("exact"))
    return PartialSurvey(open_pair(base, checkpoint, **options), settings, FactorCache() if cache else None)


def run(partial: "PartialSurvey", *, quiet: bool) -> bool:
    """Scan with progress. True when Ctrl-C ended it: what is done is printed."""
    try:
        with parts_progress("scanning", quiet=quiet) as progress:
            partial.run(progress)
    except KeyboardInterrupt:
        echo(f"Interrupted after {len(partial.done)} matrices.", err=True)
        return True
    return False


def opened_texts(texts: str | None, limit: int) -> "HeldOut | None":
    """The texts of --texts, read before the scan: a wrong name costs no time."""
    if texts is None:
        return None
    from spectra.forgetting import open_held_out

    return open_held_out(texts, limit=limit)


def on_texts(
    partial: "PartialSurvey", scan: "SpectralScan", task: "HeldOut", name: str, *, quiet: bool
) -> "SpectralScan":
    """The scan with the drift of every matrix's outputs on the activations of the base."""
    from spectra.forgetting.output_drift import output_drift, with_drift
    from spectra.models import load_base, load_kind

    loaded = load_base(scan.base, load_kind(scan.base), device=partial.settings.scan.device)
    with parts_progress("reading texts", quiet=quiet) as progress:
        drift = output_drift(partial.pair, loaded.model, loaded.tokenizer, task.test_texts(), progress=progress)
    return with_drift(scan, drift, name)


def emit(scan: "SpectralScan", output: Output, out: Path | None) -> None:
    """Data to stdout, warnings to stderr, tables to a folder."""
    warn(scan.warnings)
    output.emit(text=lambda: print_scan(scan), whole=scan.to_dict, rows=lambda: scan.rows("measures"))
    if out is not None:
        write_folder(scan, out, force=output.force)
