"""docs/checkpoints.md says what the tables of formats, encodings and dialects accept, line by line."""

from pathlib import Path

import pytest

from spectra.weights.dialects.table import DIALECTS
from spectra.weights.formats.encodings import ENCODINGS
from spectra.weights.formats.table import FORMATS

PAGE = (Path(__file__).parents[2] / "docs/checkpoints.md").read_text()
ENTRIES = [(entry.name, entry.documentation) for table in (FORMATS, ENCODINGS, DIALECTS) for entry in table]


@pytest.mark.parametrize(("name", "documentation"), ENTRIES, ids=[name for name, _ in ENTRIES])
def test_every_entry_of_the_tables_is_a_row_of_the_page(name: str, documentation: str) -> None:
    assert f"| {name} | {documentation} |" in PAGE
