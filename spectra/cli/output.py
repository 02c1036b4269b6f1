"""What a command prints: tables for people, or --json, --csv and --parquet for machines."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from spectra.cli.destinations import FileDestination
from spectra.cli.options import Command, stacked
from spectra.cli.terminal import echo
from spectra.storage.destinations import TABLE

if TYPE_CHECKING:
    import pandas as pd

Rows = Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class Output:
    """Where the result of a command goes, as its options say.

    Attributes:
        form: What stdout receives.
        parquet: A file that receives the rows as well, or None.
        force: Whether files that exist may be replaced.
    """

    form: Literal["text", "json", "csv"]
    parquet: Path | None
    force: bool

    def emit(
        self,
        *,
        text: Callable[[], None],
        whole: Callable[[], Any],
        rows: "Callable[[], Rows | pd.DataFrame]",
    ) -> None:
        """Print the result in the form that was asked for; only that form is made.

        Args:
            text: Prints it for people.
            whole: The JSON value: everything that is known.
            rows: The tidy table of --csv and --parquet; lists in a row become text.
        """
        if self.form == "json":
            echo(json.dumps(whole(), indent=2, ensure_ascii=False))
        elif self.form == "csv":
            from spectra.storage.tables import csv_text

            echo(csv_text(_table(rows())), nl=False)
        else:
            text()
        if self.parquet is not None:
            from spectra.storage.tables import write_parquet

            write_parquet(self.parquet, _table(rows()))
            echo(f"Table: {self.parquet}", err=True)


def output_options(row: str, *, json_help: str = "Print one JSON object.") -> Callable[[Command], Command]:
    """A decorator that adds --json, --csv, --parquet and --force, and hands the callback an `output` for them.

    Args:
        row: What a row of the table is, such as "vector".
        json_help: What --json prints.
    """
    options = stacked(
        click.option("--json", "as_json", is_flag=True, help=json_help),
        click.option("--csv", "as_csv", is_flag=True, help=f"Print CSV: one row per {row}."),
        click.option("--parquet", type=FileDestination(TABLE), help="Also write these rows to this Parquet file."),
        click.option("--force", is_flag=True, help="Replace output files that exist."),
    )

    def decorate(command: Command) -> Command:
        @wraps(command)
        def run(*args: Any, as_json: bool, as_csv: bool, parquet: Path | None, force: bool, **rest: Any) -> Any:
            if as_json and as_csv:
                raise click.UsageError("--json and --csv are two forms of one output. Choose one.")
            form: Literal["text", "json", "csv"] = "json" if as_json else "csv" if as_csv else "text"
            return command(*args, output=Output(form, parquet, force), **rest)

        return options(run)

    return decorate


def _table(rows: "Rows | pd.DataFrame") -> "pd.DataFrame":
    """The rows as a table whose cells are plain values."""
    import pandas as pd

    table = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
    nested = [name for name in table if any(isinstance(value, (list, tuple, dict)) for value in table[name])]
    return table.assign(**{str(name): [json.dumps(value) for value in table[name]] for name in nested})
