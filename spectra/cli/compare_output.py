"""How a comparison reads on a terminal."""

from string import ascii_uppercase
from typing import TYPE_CHECKING

from spectra.cli.terminal import console, echo, table_width

if TYPE_CHECKING:
    from spectra.records.comparison import Comparison, PairSummary


def print_comparison(result: "Comparison") -> None:
    """Checkpoints by letter, their figures, the overlap of every two, and in words who agrees."""
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    shown = console(width=table_width())
    letters = letters_of(result)
    shown.print(f"Against [bold]{escape(result.scans[0].base)}[/bold]:")
    for name, letter in letters.items():
        shown.print(Text(f"{letter}  {name}"))
    shown.print()
    figures = Table(box=None, pad_edge=False)
    figures.add_column("")
    for heading in ("matrices", "intruders", "|dW|", "|dW|/|W0|", "eff. rank", "rank 90 %"):
        figures.add_column(heading, justify="right", no_wrap=True)
    for row in result.rows("checkpoints"):
        figures.add_row(
            letters[row["checkpoint"]],
            str(row["matrices"]),
            *(_cell(row[name]) for name in ("count", "frobenius", "relative", "effective_rank", "rank_90")),
        )
    shown.print(figures)
    shown.print()
    overlaps = Table(box=None, pad_edge=False)
    for heading in ("pair", "side"):
        overlaps.add_column(heading, no_wrap=True)
    for heading in ("phi", "chance", "above"):
        overlaps.add_column(heading, justify="right", no_wrap=True)
    overlaps.add_column("least alike", overflow="fold", ratio=1)
    for pair in result.pairs():
        overlaps.add_row(
            f"{letters[pair.first]} {letters[pair.second]}",
            pair.side,
            f"{pair.phi:.3f}",
            f"{pair.expected:.3f}",
            f"{pair.above_chance} of {pair.matrices}",
            Text(pair.least_alike),
        )
    shown.print(overlaps)
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


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}" if value < 100 else f"{value:.0f}"
