"""`spectra report`: write the HTML report of a run or a scan, of several side by side, or the index of many."""

from pathlib import Path

import click

import spectra
from spectra.cli.destinations import FileDestination, WritingCommand
from spectra.cli.gate import Gate, gate_options
from spectra.cli.terminal import echo
from spectra.storage.destinations import REPORT


@click.command(cls=WritingCommand, epilog="Example:  spectra report runs/demo -o demo.html")
@click.argument("sources", nargs=-1, required=True, metavar="RUN...", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--out", type=FileDestination(REPORT), help="File to write the report to.")
@click.option("--force", is_flag=True, help="Replace OUT if it exists; a run's own report.html needs no --force.")
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    help="RUN that the others are compared with.  [default: the first]",
)
@click.option(
    "--model-card", is_flag=True, help="Instead print a section for a model card, with the hub's model-index."
)
@click.option(
    "--tracker",
    "trackers",
    multiple=True,
    metavar="tensorboard:FOLDER|wandb:PROJECT",
    help="Also send the figures to this tracker, with the page attached; repeatable.",
)
@gate_options
def command(
    sources: tuple[Path, ...],
    out: Path | None,
    force: bool,
    baseline: Path | None,
    model_card: bool,
    trackers: tuple[str, ...],
    **gate: object,
) -> None:
    """Write one HTML file that opens offline.

    RUN is a run folder of `spectra sweep`, a folder of `spectra intervene` or `spectra scan -o`, or the JSON of
    `spectra intruders` or `spectra scan`. One folder writes its own report.html unless -o says otherwise; several runs
    or scans are compared in one report, and interventions join the run that stands beside them. Those in a run folder
    are found by themselves. A folder of runs gets an index.html that links to the report of each.
    """
    from spectra.report import cases, material_of
    from spectra.report import model_card as card

    judge = Gate(**gate)  # type: ignore[arg-type]
    if model_card:
        echo(card(material_of(sources)))
    else:
        echo(spectra.write_report(sources, out, force=force, baseline=baseline, trackers=trackers))
    if judge.conditions:
        judge.judge(cases(material_of(sources, baseline=baseline)))
