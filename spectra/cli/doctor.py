"""`spectra doctor`: versions, devices, threads, cache, hub, optional packages."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

import spectra
from spectra.cli.tables import quantity
from spectra.cli.terminal import console, echo, table_width

if TYPE_CHECKING:
    from rich.console import Console

    from spectra import Environment


@click.command(epilog="Example:  spectra doctor --json")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def command(as_json: bool) -> None:
    """Show what this installation can use. Nothing is downloaded and nothing is changed."""
    found = spectra.doctor()
    if as_json:
        echo(json.dumps(found.to_dict(), indent=2))
    else:
        print_environment(found)


def print_environment(found: "Environment") -> None:
    """One short table per question."""
    from spectra.environment import OPTIONAL

    shown = console(width=table_width())
    versions = {**found.versions, "commit": found.commit or "not run from a git tree"}
    _print(shown, "Versions", versions.items())
    memory = {
        device.device: f", {_size(device.memory_bytes)}" if device.memory_bytes else "" for device in found.devices
    }
    _print(shown, "Devices", ((each.device, each.name + memory[each.device]) for each in found.devices))
    _print(shown, "Threads", ((pool.library, str(pool.threads)) for pool in found.threads))
    _print(shown, "Cache", _cache_rows(found))
    state = "offline: nothing is asked for" if found.hub_offline else "may be asked for models and data sets"
    _print(shown, "Hub", [("state", state), *found.hub.items()])
    _print(shown, "Optional packages", _optional_rows(found, OPTIONAL))


def _print(shown: "Console", title: str, rows: Iterable[tuple[str, str]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", show_header=False, box=None, pad_edge=False)
    table.add_column(min_width=14, max_width=44, overflow="fold")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(f"  {escape(name)}", escape(value))
    shown.print(table)


def _cache_rows(found: "Environment") -> Iterable[tuple[str, str]]:
    entries = found.cache_entries
    yield "folder", found.cache
    yield "size", _size(sum(entry.bytes for entry in entries))
    for entry in entries:
        yield entry.name, f"{_size(entry.bytes)} in {entry.items} {'entry' if entry.items == 1 else 'entries'}"


def _optional_rows(found: "Environment", purposes: dict[str, tuple[str, str]]) -> Iterable[tuple[str, str]]:
    for name, (extra, purpose) in purposes.items():
        absent = f"absent (pip install 'lora-spectra[{extra}]')"
        yield name, f"{found.optional[name] or absent}: {purpose}"


def _size(size: int) -> str:
    return quantity(size, "B")
