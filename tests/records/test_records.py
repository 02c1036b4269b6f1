"""How scans look in a notebook: small, escaped, complete where it matters."""

import subprocess
import sys
from html.parser import HTMLParser

import pytest

from spectra.records import IntruderScan, LeadingVector, MatrixScan
from spectra.records.measures import UpdateNorms
from spectra.records.totals import totals
from spectra.records.verdicts import Skipped

HOSTILE = "<script>alert('x')</script> & \"quotes\""


class Cells(HTMLParser):
    """The text of every cell of a table, row by row, and every tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.rows: list[list[str]] = []
        self.caption = ""
        self.below = ""
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.add(tag)
        self.inside = tag
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.inside in ("td", "th"):
            self.rows[-1][-1] += data
        elif self.inside == "caption":
            self.caption += data
        else:
            self.below += data


def vector(index: int, lower: float, upper: float) -> LeadingVector:
    return LeadingVector(index, 10.0 - index, lower, upper < 0.5, lower, upper, "certificate")


def matrix(name: str, intruders: int, update: UpdateNorms | None = None, **more: object) -> MatrixScan:
    vectors = tuple(vector(j, 0.1, 0.2) if j < intruders else vector(j, 0.9, 0.9001) for j in range(4))
    measures = () if update is None else update.measures()
    return MatrixScan(
        name, 0, "query", "attention", (8, 6), method="certified", vectors=vectors, measures=measures, **more
    )


def scan(*matrices: MatrixScan, **more: object) -> IntruderScan:
    return IntruderScan("tuned", "base", ("norms",), 4, 0.5, "left", 0, matrices, **more)


def test_a_matrix_shows_one_row_per_vector_with_its_bracket() -> None:
    table = Cells(matrix("layers.0.query", 1)._repr_html_())
    assert table.caption == "layers.0.query: 1 of 4 leading vectors intrude"
    assert table.rows[1] == ["0", "left", "10", "0.100 to 0.200", "yes", "certificate"]
    assert table.rows[2] == ["1", "left", "9", "0.900", "no", "certificate"]
    assert len(table.rows) == 1 + 4


def test_a_scan_shows_the_matrices_with_the_most_intruders_and_says_what_it_leaves_out() -> None:
    norms = UpdateNorms(1.0, 0.5, 0.0123, 3.0, 2.0)
    many = [matrix(f"layers.{i}.query", 0) for i in range(11)]
    table = Cells(scan(*many, matrix("most", 3, norms), matrix("some", 1))._repr_html_())
    assert "4 intruder dimensions among 52 leading vectors of 13 matrices (k = 4, epsilon = 0.5" in table.caption
    assert [row[0] for row in table.rows[1:3]] == ["most", "some"]
    assert table.rows[1][2] == "3" and table.rows[1][4] == "1.23e-02"
    assert table.rows[2][4] == "–"
    assert len(table.rows) == 1 + 10
    assert table.below == "3 more matrices: see to_dataframe()."


def test_names_and_warnings_from_outside_are_text() -> None:
    shown = scan(matrix(HOSTILE, 1), skipped=(Skipped(HOSTILE, HOSTILE),), warnings=(HOSTILE,))._repr_html_()
    table = Cells(shown)
    assert table.tags == {"table", "caption", "thead", "tbody", "tr", "th", "td", "p"}
    assert table.rows[1][0] == HOSTILE
    assert table.below == f"1 not compared: see skipped.{HOSTILE}"
    assert "script" not in Cells(matrix(HOSTILE, 0)._repr_html_()).tags


def test_an_empty_scan_still_has_its_caption() -> None:
    table = Cells(scan()._repr_html_())
    assert len(table.rows) == 1 and "0 intruder dimensions among 0" in table.caption


def test_records_need_no_torch() -> None:
    code = (
        "import sys; from spectra.records import IntruderScan;"
        "IntruderScan('a', 'b', (), 1, 0.5, 'left', 0, ())._repr_html_(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_whole_update_counts_matrices_that_were_not_changed() -> None:
    changed = matrix("a", 1, UpdateNorms(3.0, 1.0, 0.3, 2.0, 2.0), base_frobenius=10.0)
    untouched = matrix("b", 0, UpdateNorms(0.0, 0.0, 0.0, 0.0, 0.0), base_frobenius=24.0)
    whole = totals([changed, untouched])
    assert whole["count"] == 1 and whole["matrices"] == 2
    assert whole["update_frobenius"] == 3.0
    assert whole["update_relative"] == 3.0 / 26.0  # ||W0|| of the untouched matrix belongs to the whole
    assert whole["effective_rank"] == 1.0


def test_a_norm_that_one_matrix_lacks_is_not_given_for_the_whole() -> None:
    norms = UpdateNorms(3.0, 1.0, 0.3, 2.0, 2.0)
    assert "update_frobenius" not in totals([matrix("a", 1, norms), matrix("b", 0)])
    # Read from a file of an earlier version: ||W0|| follows from the ratio, unless the update is zero.
    assert totals([matrix("a", 1, norms)])["update_relative"] == pytest.approx(0.3)
    unknown = totals([matrix("a", 1, norms), matrix("b", 0, UpdateNorms(0.0, 0.0, 0.0, 0.0, 0.0))])
    assert unknown["update_frobenius"] == 3.0 and "update_relative" not in unknown
