"""`spectra scan`: every spectral measure of a checkpoint, beside what chance would give."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spectra.cli.destinations import FileDestination, FolderDestination, WritingCommand
from spectra.cli.options import (
    QUESTION,
    checkpoint_options,
    definition_options,
    engine_options,
    quiet_option,
    selection_options,
    stacked,
    trust_option,
)
from spectra.cli.output import Output, output_options
from spectra.cli.progress import parts_progress
from spectra.cli.scan_output import print_scan, write_folder
from spectra.cli.scanning import ray_option, scanned, tell_warnings, write_html
from spectra.storage.destinations import REPORT

if TYPE_CHECKING:
    from spectra.forgetting import HeldOut
    from spectra.records import Scan

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
@click.option("--html", type=FileDestination(REPORT), help="Also write an HTML report here.")
@ray_option
@trust_option
@quiet_option
def command(
    checkpoint: str,
    base: str | None,
    memory: int | None,
    cache: bool,
    output: Output,
    out: Path | None,
    html: Path | None,
    texts: str | None,
    text_limit: int,
    ray: str | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Measure what fine-tuning did to the spectra of a checkpoint.

    CKPT is a peft adapter folder or a full checkpoint (folder, file or hub id). One pass over its matrices gives
    intruder dimensions, norms and ranks of the update, alignment with the base, and the base's own spectrum, each
    number beside controls: the rounding of storage, dense noise and a random update of the same norm and rank.
    """
    from spectra.records import chosen_groups
    from spectra.scanning.settings import EVERY_MATRIX

    task = opened_texts(texts, text_limit)
    question = {name: options.pop(name) for name in (*QUESTION, "seed", "draws", "exact")} | {"memory_bytes": memory}
    question["groups"] = chosen_groups(options.pop("metrics"))
    if html is not None and "intruders" not in question["groups"]:
        raise click.UsageError("--html shows the intruder verdicts of each matrix. Add intruders to --metrics.")
    question["pictured"] = (EVERY_MATRIX,) if html is not None else ()
    [scan], interrupted = scanned([checkpoint], base, question, options, cache=cache, ray=ray, quiet=quiet)
    if task is not None and not interrupted:
        scan = on_texts(scan, task, str(texts), options, device=question["device"], quiet=quiet)
    emit(scan, output, out)
    if html is not None:
        write_html(scan, html)
    if interrupted:
        sys.exit(130)


def opened_texts(texts: str | None, limit: int) -> "HeldOut | None":
    """The texts of --texts, read before the scan: a wrong name costs no time."""
    if texts is None:
        return None
    from spectra.forgetting import open_held_out

    return open_held_out(texts, limit=limit)


def on_texts(scan: "Scan", task: "HeldOut", name: str, opening: dict[str, Any], *, device: str, quiet: bool) -> "Scan":
    """The scan with the drift of every matrix's outputs on the activations of the base."""
    from spectra.forgetting.output_drift import output_drift, with_drift
    from spectra.models import load_base, load_kind
    from spectra.weights import open_pair

    loaded = load_base(scan.base, load_kind(scan.base), device=device)
    pair = open_pair(scan.base, scan.checkpoint, **opening)
    with parts_progress("reading texts", quiet=quiet) as progress:
        drift = output_drift(pair, loaded.model, loaded.tokenizer, task.test_texts(), progress=progress)
    return with_drift(scan, drift, name)


def emit(scan: "Scan", output: Output, out: Path | None) -> None:
    """Data to stdout, warnings to stderr, tables to a folder."""
    tell_warnings([scan])
    output.emit(text=lambda: print_scan(scan), whole=scan.to_dict, rows=lambda: scan.rows("measures"))
    if out is not None:
        write_folder(scan, out, force=output.force)
