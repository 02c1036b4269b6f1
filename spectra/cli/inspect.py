"""`spectra inspect`: what is in a checkpoint, and which matrices would be compared."""

import sys
from collections import Counter
from typing import Any

import click

from spectra.cli.destinations import WritingCommand
from spectra.cli.options import checkpoint_options, selection_options
from spectra.cli.output import Output, output_options
from spectra.cli.terminal import console, warn


@click.command(cls=WritingCommand, epilog="Example:  spectra inspect path/to/adapter --base path/to/base")
@click.argument("checkpoint", metavar="CKPT")
@checkpoint_options
@selection_options
@output_options("matrix", json_help="Print one JSON object with every matrix.")
def command(checkpoint: str, output: Output, **options: Any) -> None:
    """Show what is in CKPT, a peft adapter or a full checkpoint: folder, file or hub id.

    Prints the method, rank, alpha and scaling per module, the matrices that would be compared and those that would
    not, with the reason, bytes, trained parameters and the optimiser memory they took. Reads headers only.
    """
    from spectra.weights.matching.inventory import inventory
    from spectra.weights.opening import open_to_inspect

    found = inventory(open_to_inspect(checkpoint, **options))
    warn(found["warnings"])
    output.emit(
        text=lambda: _print(found),
        whole=lambda: found,
        rows=lambda: [{"checkpoint": found["checkpoint"], **entry} for entry in found["matrices"]],
    )


def _print(found: dict[str, Any]) -> None:
    """The inventory as tables that fit 80 columns."""
    from rich import box
    from rich.table import Table

    from spectra.weights.matching.inventory import grouped

    shown = console(width=None if sys.stdout.isatty() else 80)
    shown.print(_facts(found))
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("role", overflow="fold")
    table.add_column("block")
    for name in ("n", "shape", "rank", "alpha", "scaling", "trained"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in grouped(found["matrices"]):
        table.add_row(
            row["role"], row["block"], str(row["matrices"]), "x".join(map(str, row["shape"])), _number(row["rank"]),
            _number(row["alpha"]), _number(row["scaling"]), f"{row['parameters']:,}",
        )  # fmt: skip
    shown.print(table)
    shown.print()
    reasons = Counter(skipped["reason"] for skipped in found["skipped"])
    for reason, count in reasons.most_common():
        first = next(skipped["name"] for skipped in found["skipped"] if skipped["reason"] == reason)
        shown.print(f"not compared: {count} {reason} ({first}{', ...' if count > 1 else ''})", soft_wrap=False)


def _facts(found: dict[str, Any]) -> str:
    """The lines above the table."""
    from spectra.records.coverage import Coverage

    coverage = Coverage(**found["coverage"] or {})
    base = found["base"] if found["base"] is not None else "none given"
    return "\n".join(
        (
            f"{found['checkpoint']}",
            f"  kind        {found['kind']}, {found['method']}",
            f"  base        {base}",
            f"  size        {_bytes(found['bytes'])}, {found['trained_parameters']:,} trained parameters",
            f"  optimiser   {_bytes(found['optimiser_bytes'])} (AdamW in float32: 8 bytes a trained parameter)",
            f"  compared    {len(found['matrices'])} matrices, "
            f"the largest {_bytes(found['largest_matrix_bytes'])} in float32",
            f"  coverage    {coverage.sentence}\n",
        )
    )


def _number(value: int | float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _bytes(count: int) -> str:
    """Bytes for people: powers of 1000, three digits."""
    size, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.3g} {units[0]}"
