"""`spectra inspect`: what is in a checkpoint, and which matrices would be compared."""

import re
import sys
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

import spectra
from spectra.cli.destinations import WritingCommand
from spectra.cli.garbage import uncollected
from spectra.cli.options import checkpoint_options, selected, selection_options, stream_option
from spectra.cli.output import Output, output_options
from spectra.cli.tables import quantity
from spectra.cli.terminal import console, warn
from spectra.errors import first_and_more
from spectra.records.coverage import Coverage

if TYPE_CHECKING:
    from rich.console import Console

    from spectra import Inspection, Selection

DIFFERENCES_SHOWN = 20


@click.command(cls=WritingCommand, epilog="Example:  spectra inspect path/to/adapter --base path/to/base")
@click.argument("checkpoint", metavar="CKPT")
@checkpoint_options
@stream_option
@selection_options
@click.option(
    "--verify", is_flag=True, help="Load both models with transformers and peft, and hold every matrix against them."
)
@output_options("matrix", json_help="Print one JSON object with every matrix.")
@selected
def command(checkpoint: str, base: str | None, output: Output, *, selection: "Selection", verify: bool) -> None:
    """Show what is in CKPT, an adapter or a full checkpoint: folder, file or hub id.

    Prints the method, rank, alpha and scaling per module, the matrices that would be compared, those that would not
    and why, the size in bytes, the trained parameters and the memory that the optimiser took. Only headers are read.

    An adapter needs no base: without --base, norms, effective rank and spectrum of every update are computed from its
    factors, and the output says what needs a base.

    With --verify the base and the tuned model are loaded as their users load them, and layout, names and values of
    every matrix are held against the loaded modules. Both must fit into memory. Any difference gives exit code 1.
    """
    if verify and selection.split_fused:
        raise click.UsageError("--verify holds whole matrices against the models. Leave out --split-fused.")
    with uncollected():
        found = spectra.inspect(checkpoint, base, selection=selection, verify=verify)
    warn(found.warnings)
    output.emit(text=lambda: print_inspection(found), whole=found.to_dict, rows=found.rows)
    if found.differences:
        sys.exit(1)


def print_inspection(found: "Inspection") -> None:
    """The inventory as tables that fit 80 columns."""
    shown = console(width=None if sys.stdout.isatty() else 80)
    shown.print(_facts(found))
    if found.matrices or found.skipped:
        _print_matrices(shown, found)
    if found.updates is not None:
        _print_updates(shown, found)


def _print_updates(shown: "Console", found: "Inspection") -> None:
    """Updates that agree in role, shape and settings, one row each, with the means of what was measured."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("update of", overflow="fold")
    for name in ("n", "shape", "rank", "scaling", "norm", "largest", "eff. rank"):
        table.add_column(name, justify="right", no_wrap=True)
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for entry in found.updates or ():
        groups.setdefault((_role(entry["module"]), *entry["shape"], entry["rank"], entry["scaling"]), []).append(entry)
    for (role, d_out, d_in, rank, scaling), entries in groups.items():
        means = [
            f"{sum(entry[key] for entry in entries) / len(entries):.3g}"
            for key in ("frobenius", "spectral", "effective_rank")
        ]
        table.add_row(role, str(len(entries)), f"{d_out}x{d_in}", _number(rank), _number(scaling), *means)
    shown.print()
    shown.print(table)
    shown.print("\nMeans over the updates of a row; --json lists every update with its singular values.")
    reasons = Counter(needed["reason"] for needed in found.needs_base or ())
    for reason, count in reasons.items():
        shown.print(reason if count == 1 else f"{count} modules: {reason}.", soft_wrap=False)
    shown.print()


def _role(module: str) -> str:
    """The end of a module's name; of one whose dots were written as underscores, what follows its last number."""
    return re.split(r"_\d+_", module.rpartition(".")[2])[-1]


def _print_matrices(shown: "Console", found: "Inspection") -> None:
    """The matrices that would be compared, and those that would not."""
    from rich import box
    from rich.table import Table

    from spectra.weights.matching.inventory import grouped

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("role", overflow="fold")
    table.add_column("block")
    for name in ("n", "shape", "rank", "alpha", "scaling", "trained"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in grouped(found.matrices):
        table.add_row(
            row["role"], row["block"], str(row["matrices"]), "x".join(map(str, row["shape"])), _number(row["rank"]),
            _number(row["alpha"]), _number(row["scaling"]), f"{row['parameters']:,}",
        )  # fmt: skip
    shown.print(table)
    shown.print()
    by_reason: dict[str, list[str]] = {}
    for skipped in found.skipped:
        by_reason.setdefault(skipped["reason"], []).append(skipped["name"])
    for reason, names in sorted(by_reason.items(), key=lambda one: -len(one[1])):
        shown.print(f"not compared: {first_and_more(names)} ({reason})", soft_wrap=False, markup=False)
    if found.verification is not None:
        _print_verification(found.verification, shown)


def _print_verification(verification: Mapping[str, Any], shown: "Console") -> None:
    """Every difference in a table, and the sum in a sentence."""
    from rich.table import Table

    different = [entry for entry in verification["checked"] if entry["problem"]]
    if different:
        table = Table(box=None, pad_edge=False)
        for name in ("matrix", "module of the loaded model", "error", "difference"):
            table.add_column(name, overflow="fold")
        for entry in different[:DIFFERENCES_SHOWN]:
            error = "-" if entry["error"] is None else f"{entry['error']:.1e}"
            table.add_row(entry["name"] or "-", entry["module"] or "-", error, entry["problem"])
        shown.print(table)
    shown.print(
        f"verified: {verification['matrices']} matrices against transformers and peft, "
        f"{verification['differences']} differences"
    )


def _facts(found: "Inspection") -> str:
    """The lines above the table."""
    base = found.base
    kind = found.kind if found.method == found.kind else f"{found.kind}, {found.method}"
    alone = found.updates is not None and found.coverage is None
    if found.format is not None:
        kind += f" ({found.format})"
    if alone and base is not None:
        base += ", not on this machine"
    lines = [
        f"{found.checkpoint}",
        f"  kind        {kind}",
        f"  base        {base if base is not None else 'none given'}",
        f"  size        {_bytes(found.bytes)}, {found.trained_parameters:,} trained parameters",
        f"  optimiser   {_bytes(found.optimiser_bytes)} (AdamW in float32: 8 bytes a trained parameter)",
    ]
    if not alone:
        coverage = found.coverage or Coverage()
        lines += [
            f"  compared    {len(found.matrices)} matrices, "
            f"the largest {_bytes(found.largest_matrix_bytes)} in float32",
            f"  coverage    {coverage.sentence}",
        ]
    return "\n".join((*lines, ""))


def _number(value: int | float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _bytes(count: int) -> str:
    return quantity(count, "B") if count >= 1000 else f"{count} bytes"
