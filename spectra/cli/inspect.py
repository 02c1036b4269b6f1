"""`spectra inspect`: what is in a checkpoint, and which matrices would be compared."""

import re
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from spectra.cli.destinations import WritingCommand
from spectra.cli.options import checkpoint_options, selection_options
from spectra.cli.output import Output, output_options
from spectra.cli.terminal import console, warn

if TYPE_CHECKING:
    from rich.console import Console

DIFFERENCES_SHOWN = 20


@click.command(cls=WritingCommand, epilog="Example:  spectra inspect path/to/adapter --base path/to/base")
@click.argument("checkpoint", metavar="CKPT")
@checkpoint_options
@selection_options
@click.option(
    "--verify", is_flag=True, help="Load both models with transformers and peft, and hold every matrix against them."
)
@output_options("matrix", json_help="Print one JSON object with every matrix.")
def command(checkpoint: str, output: Output, *, verify: bool, **options: Any) -> None:
    """Show what is in CKPT, an adapter or a full checkpoint: folder, file or hub id.

    Prints the method, rank, alpha and scaling per module, the matrices that would be compared and those that would
    not, with the reason, bytes, trained parameters and the optimiser memory they took. Reads headers only.

    An adapter needs no base: without --base, norms, effective rank and spectrum of every update are computed from its
    factors, and what needs a base is said.

    With --verify the base and the tuned model are loaded as their users load them, and layout, names and values of
    every matrix are held against the loaded modules. Both must fit into memory. A difference ends with exit code 1.
    """
    from spectra.scanning.inspection import inspection

    if verify and options["split_fused"]:
        raise click.UsageError("--verify holds whole matrices against the models. Leave out --split-fused.")
    found = inspection(checkpoint, **options)
    if verify:
        from spectra.weights import verify_checkpoint
        from spectra.weights.opening import open_to_inspect

        named = {name: options[name] for name in ("revision", "base_revision", "adapter_name", "take")}
        found["verification"] = verify_checkpoint(open_to_inspect(checkpoint, **options), **named).to_dict()
    warn(found["warnings"])
    output.emit(
        text=lambda: _print(found),
        whole=lambda: found,
        rows=lambda: [
            {"checkpoint": found["checkpoint"], **entry} for entry in found["matrices"] or found.get("updates", [])
        ],
    )
    if verify and found["verification"]["differences"]:
        sys.exit(1)


def _print(found: dict[str, Any]) -> None:
    """The inventory as tables that fit 80 columns."""
    shown = console(width=None if sys.stdout.isatty() else 80)
    shown.print(_facts(found))
    if found["matrices"] or found["skipped"]:
        _print_matrices(shown, found)
    if "updates" in found:
        _print_updates(shown, found)


def _print_updates(shown: "Console", found: dict[str, Any]) -> None:
    """Updates that agree in role, shape and settings, one row each, with the means of what was measured."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("update of", overflow="fold")
    for name in ("n", "shape", "rank", "scaling", "norm", "largest", "eff. rank"):
        table.add_column(name, justify="right", no_wrap=True)
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for entry in found["updates"]:
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
    reasons = Counter(needed["reason"] for needed in found["needs_base"])
    for reason, count in reasons.items():
        shown.print(reason if count == 1 else f"{count} modules: {reason}.", soft_wrap=False)
    shown.print()


def _role(module: str) -> str:
    """The end of a module's name; of one whose dots were written as underscores, what follows its last number."""
    return re.split(r"_\d+_", module.rpartition(".")[2])[-1]


def _print_matrices(shown: "Console", found: dict[str, Any]) -> None:
    """The matrices that would be compared, and those that would not."""
    from rich import box
    from rich.table import Table

    from spectra.weights.matching.inventory import grouped

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
    if "verification" in found:
        _print_verification(found["verification"], shown)


def _print_verification(verification: dict[str, Any], shown: "Console") -> None:
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


def _facts(found: dict[str, Any]) -> str:
    """The lines above the table."""
    from spectra.records.coverage import Coverage

    base, kind = found["base"], f"{found['kind']}, {found['method']}"
    alone = "updates" in found and found["coverage"] is None
    if "format" in found:
        kind += f" ({found['format']})"
    if alone and base is not None:
        base += ", not on this machine"
    lines = [
        f"{found['checkpoint']}",
        f"  kind        {kind}",
        f"  base        {base if base is not None else 'none given'}",
        f"  size        {_bytes(found['bytes'])}, {found['trained_parameters']:,} trained parameters",
        f"  optimiser   {_bytes(found['optimiser_bytes'])} (AdamW in float32: 8 bytes a trained parameter)",
    ]
    if not alone:
        lines += [
            f"  compared    {len(found['matrices'])} matrices, "
            f"the largest {_bytes(found['largest_matrix_bytes'])} in float32",
            f"  coverage    {Coverage(**found['coverage'] or {}).sentence}",
        ]
    return "\n".join((*lines, ""))


def _number(value: int | float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _bytes(count: int) -> str:
    """Bytes for people: powers of 1000, three digits."""
    size, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.3g} {units[0]}"
