"""A list of flat rows as a result: trials, plugins, assets."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from spectra.records.verdicts import html_table

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Listing:
    """Rows in their order, all with the same keys.

    Attributes:
        entries: The rows.
    """

    caption: ClassVar[str] = ""

    entries: Sequence[Mapping[str, Any]]

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self.entries)

    def rows(self) -> Iterator[dict[str, Any]]:
        """One flat row per entry."""
        yield from map(dict, self.entries)

    def to_dict(self) -> Any:
        """The JSON value of the command."""
        return list(self.rows())

    def to_dataframe(self) -> "pd.DataFrame":
        """One row per entry as a pandas table."""
        import pandas as pd

        return pd.DataFrame(list(self.rows()))

    def _repr_html_(self) -> str:
        """The rows, for notebooks."""
        headings = list(self.entries[0]) if self.entries else []
        cells = [tuple("" if row[name] is None else str(row[name]) for name in headings) for row in self.entries]
        return html_table(f"{self.caption}: {len(self.entries)}", headings, cells)
