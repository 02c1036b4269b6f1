"""How scans look in a notebook: small, escaped, complete where it matters."""

import subprocess
import sys
from html.parser import HTMLParser

from spectra.records.intruder_scan import IntruderScan, MatrixSpectrum, Skipped, UpdateNorms, VectorVerdict

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


def vector(index: int, lower: float, upper: float) -> VectorVerdict:
    return VectorVerdict(index, 10.0 - index, lower, upper < 0.5, lower, upper, "certificate")


def matrix(name: str, intruders: int, update: UpdateNorms | None = None) -> MatrixSpectrum:
    vectors = tuple(vector(j, 0.1, 0.2) if j < intruders else vector(j, 0.9, 0.9001) for j in range(4))
    return MatrixSpectrum(name, 0, "query", "attention", (8, 6), "certified", vectors, update=update)


def scan(*matrices: MatrixSpectrum, **more: object) -> IntruderScan:
    return IntruderScan("tuned", "base", 4, 0.5, "left", "auto", matrices, **more)


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
        "import sys; from spectra.records.intruder_scan import IntruderScan;"
        "IntruderScan('a', 'b', 1, 0.5, 'left', 'auto', ())._repr_html_(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
