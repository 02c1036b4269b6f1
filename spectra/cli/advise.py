"""`spectra advise`: rank and alpha per layer, from what was trained already."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spectra.cli.advise_output import print_advice, print_verification
from spectra.cli.destinations import FileDestination, WritingCommand
from spectra.cli.options import (
    Share,
    checkpoint_options,
    device_option,
    quiet_option,
    selection_options,
    stacked,
    trust_option,
    vector_options,
)
from spectra.cli.output import Output, output_options
from spectra.cli.progress import parts_progress
from spectra.cli.terminal import echo, warn
from spectra.storage.destinations import LORA_CONFIG

if TYPE_CHECKING:
    from spectra.advice import Advice, Verification

ASKED = ("keep", "max_rank", "alpha", "headroom", "draws", "seed", "measure")

advice_options = stacked(
    click.option("--keep", type=Share, default=0.9, show_default=True, help="Share of each update's energy to keep."),
    click.option("--max-rank", type=click.IntRange(min=1), help="No rank is larger.  [default: no limit]"),
    click.option("--alpha", default="2r", show_default=True, help="Rule where SOURCE has no LoRA update, or a number."),
    click.option(
        "--headroom", type=Share, default=0.9, show_default=True, help="Largest scale advised, of the critical one."
    ),
    click.option("--draws", type=click.IntRange(min=1), default=15, show_default=True, help="Random directions each."),
    click.option("--seed", type=int, default=0, show_default=True, help="Of the random directions."),
    click.option(
        "--measure/--no-measure", default=True, show_default=True, help="Scan growing multiples of the update too."
    ),
    vector_options,
    device_option,
)

verify_options = stacked(
    click.option("--verify", "verified", is_flag=True, help="Train it as SOURCE was trained, and report the outcome."),
    click.option(
        "--verify-out", type=click.Path(file_okay=False, path_type=Path), help="Run folder.  [default: SOURCE-advised]"
    ),
    click.option("-o", "--out", type=FileDestination(LORA_CONFIG), help="Write peft's LoraConfig here."),
    quiet_option,
    trust_option,
)


@click.command(cls=WritingCommand, epilog="Example:  spectra advise runs/default --keep 0.9 --max-rank 32 -o lora.json")
@click.argument("source", metavar="SOURCE")
@checkpoint_options
@advice_options
@selection_options
@verify_options
@output_options("matrix")
def command(
    source: str, output: Output, out: Path | None, verified: bool, verify_out: Path | None, quiet: bool, **options: Any
) -> None:
    """Advise rank and alpha per matrix, ready for peft, from a checkpoint or a sweep.

    SOURCE is the run folder of `spectra sweep` or a checkpoint. Ranks keep a share of the energy of the full update (of
    the LoRA update where nothing else was trained); alphas stay below the scale at which the first intruder dimension
    is measured or predicted. What the advice rests on is printed with it.
    """
    advice = advised(source, quiet=quiet, **options)
    if out is not None:
        write_config(advice, out)
    outcome = trained(advice, source, verify_out or Path(f"{source.rstrip('/')}-advised"), quiet) if verified else None
    emit(advice, outcome, output)


def advised(source: str, *, quiet: bool, k: int, epsilon: float, device: str, **options: Any) -> "Advice":
    """The advice, with progress."""
    from spectra.advice import advise
    from spectra.advice.advise import AdviceSettings
    from spectra.engine.cache import FactorCache
    from spectra.scanning.settings import ScanSettings

    scan = ScanSettings(k=k, epsilon=epsilon, device=device)
    settings = AdviceSettings(scan=scan, **{name: options.pop(name) for name in ASKED})
    with parts_progress("advising", quiet=quiet) as progress:
        return advise(source, options.pop("base"), settings, cache=FactorCache(), progress=progress, **options)


def write_config(advice: "Advice", out: Path) -> None:
    """The keyword arguments of `peft.LoraConfig` as JSON."""
    from spectra.storage.atomic import write_json

    write_json(out, advice.lora_config())
    echo(f"LoraConfig: {out}", err=True)


def trained(advice: "Advice", source: str, folder: Path, quiet: bool) -> "Verification":
    """Train what was advised, with the progress of a sweep."""
    from spectra.advice import verify, verifying
    from spectra.cli.sweep_progress import shown_progress
    from spectra.runs import Run

    command = shlex.join(["spectra", *sys.argv[1:]])
    with shown_progress(verifying(advice, Run.open(source)), folder, None, quiet=quiet) as on_event:
        return verify(advice, source, folder, on_event=on_event, command=command)


def emit(advice: "Advice", outcome: "Verification | None", output: Output) -> None:
    """Tables for people, or one object for machines."""
    warn(advice.warnings)

    def show() -> None:
        print_advice(advice)
        if outcome is not None:
            print_verification(outcome)

    verification = {} if outcome is None else {"verification": outcome.to_dict()}
    output.emit(text=show, whole=lambda: {**advice.to_dict(), **verification}, rows=advice.rows)
