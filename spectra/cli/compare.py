"""`spectra compare`: checkpoints of one base side by side."""

from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

import click

import spectra
from spectra.cli.destinations import FileDestination, WritingCommand
from spectra.cli.options import (
    cache_option,
    checkpoint_options,
    device_option,
    overlap_options,
    quiet_option,
    selected,
    selection_options,
    side_option,
    stacked,
    stream_option,
    vector_options,
)
from spectra.cli.output import Output, output_options
from spectra.cli.progress import notices, parts_progress
from spectra.cli.tables import folding_table, number, print_folding
from spectra.cli.terminal import console, echo, table_width, warn
from spectra.storage.destinations import COMPARISON, REPORT

if TYPE_CHECKING:
    from spectra import Comparison, Selection
    from spectra.records.comparison import PairSummary

control_options = stacked(
    overlap_options,
    click.option("--seed", type=int, default=0, show_default=True, help="Seed of the random subspaces."),
    device_option,
    cache_option,
)


@click.command(
    cls=WritingCommand,
    epilog="Example:  spectra compare adapter-seed-0 adapter-seed-1 full-checkpoint --base roberta-base",
)
@click.argument("checkpoints", metavar="CKPT CKPT...", nargs=-1, required=True)
@checkpoint_options
@stream_option
@control_options
@vector_options
@side_option
@selection_options
@output_options("pair of checkpoints, matrix and side")
@click.option("-o", "--out", type=FileDestination(COMPARISON), help="Also write the JSON object to this file.")
@click.option("--html", type=FileDestination(REPORT), help="Also write an HTML report to this file.")
@quiet_option
@selected
def command(
    checkpoints: tuple[str, ...],
    base: str | None,
    cache: bool,
    output: Output,
    out: Path | None,
    html: Path | None,
    quiet: bool,
    selection: "Selection",
    **options: Any,
) -> None:
    """Put checkpoints of one base side by side: intruders, norms and ranks, and whose updates point the same way.

    The overlap of two updates of a matrix is phi = ||U_1^T U_2||_F^2 / min(i, j) of their leading singular vectors
    (Hu et al., arXiv:2106.09685, section 7.2), beside the phi of random subspaces, expected and simulated.
    """
    kept = spectra.FactorCache() if cache else None
    with parts_progress("comparing", quiet=quiet) as progress:
        result = spectra.compare(
            checkpoints,
            base,
            selection=selection,
            cache=kept,
            progress=progress,
            notice=notices(quiet=quiet),
            **options,
        )
    warn(result.warnings)
    output.emit(text=lambda: print_comparison(result), whole=result.to_dict, rows=lambda: result.rows("overlaps"))
    if out is not None:
        from spectra.storage.atomic import write_json

        write_json(out, result.to_dict())
    if html is not None:
        from spectra.records.provenance import command_line

        written = spectra.write_report(result, html, force=True, command=command_line())
        echo(f"Report: {written}", err=True)


def print_comparison(result: "Comparison") -> None:
    """Checkpoints by letter, their figures, the overlap of every two, and in words who agrees."""
    from rich.markup import escape
    from rich.text import Text

    shown = console(width=table_width())
    letters = letters_of(result)
    shown.print(f"Against [bold]{escape(result.scans[0].base)}[/bold]:")
    for name, letter in letters.items():
        shown.print(Text(f"{letter}  {name}"))
    shown.print()
    headings = ("matrices", "intruders", "|dW|", "|dW|/|W0|", "eff. rank", "rank 90 %")
    figures = folding_table("", headings)
    for row in result.rows("checkpoints"):
        figures.add_row(
            letters[row["checkpoint"]],
            str(row["matrices"]),
            *(_figure(row[name]) for name in ("count", "frobenius", "relative", "effective_rank", "rank_90")),
        )
    print_folding(figures)
    echo()
    overlaps = folding_table("pair", ("side", "phi", "chance", "above"), ("least alike",))
    for pair in result.pairs():
        overlaps.add_row(
            f"{letters[pair.first]} {letters[pair.second]}",
            pair.side,
            f"{pair.phi:.3f}",
            f"{pair.expected:.3f}",
            f"{pair.above_chance} of {pair.matrices}",
            Text(pair.least_alike),
        )
    print_folding(overlaps)
    for sentence in sentences(result):
        echo(sentence)


def sentences(result: "Comparison") -> list[str]:
    """What phi is, and which updates point the same way more than chance would have it."""
    letters = letters_of(result)
    told = [
        f"phi: overlap of the {result.top} leading directions of two updates, mean over matrices; 1 is the same "
        f"subspace. Above chance: larger than all of {result.draws} simulated pairs of random subspaces.",
        f"Counts: k = {result.scans[0].k}, epsilon = {result.scans[0].epsilon:g}. Ranks are means over matrices.",
    ]
    for side in ("left", "right"):
        pairs = [pair for pair in result.pairs() if pair.side == side]
        agree = [_names(pair, letters) for pair in pairs if 2 * pair.above_chance > pair.matrices]
        differ = [_names(pair, letters) for pair in pairs if 2 * pair.above_chance <= pair.matrices]
        if agree:
            told.append(f"Agree beyond chance in most matrices ({side}): {', '.join(agree)}.")
        if differ:
            told.append(f"No more alike than chance in half of the matrices or more ({side}): {', '.join(differ)}.")
    return told


def letters_of(result: "Comparison") -> dict[str, str]:
    """A short name for each checkpoint: A, B, ...; numbers beyond 26."""
    count = len(result.checkpoints)
    names = ascii_uppercase if count <= len(ascii_uppercase) else [str(number) for number in range(1, count + 1)]
    return dict(zip(result.checkpoints, names, strict=False))


def _names(pair: "PairSummary", letters: dict[str, str]) -> str:
    return f"{letters[pair.first]} and {letters[pair.second]}"


def _figure(value: float | None) -> str:
    return number(value) if value is None or value < 100 else f"{value:.0f}"
