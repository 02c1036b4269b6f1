import json
from pathlib import Path

import pytest

from spectra.errors import DataError
from spectra.records import GROUPS, MatrixScan, Measure, NullLine, Scan, chosen_groups, read_scan


def matrix(name: str, count: float, norm: float, rank: float | None) -> MatrixScan:
    line = NullLine("dense gaussian", 1.0, 0.5, 1.5, 3)
    measures = (
        Measure("intruders.count", count, side="left", nulls=(line,)),
        Measure("intruders.count", count + 1, side="right"),
        Measure("update.frobenius", norm),
        Measure("update.effective_rank", rank, "exact" if rank is not None else "not computed", note="why"),
    )
    return MatrixScan(name, 0, "q_proj", "attention", (4, 3), measures=measures, seconds={"update": 0.5})


def scan(*matrices: MatrixScan, side: str = "both") -> Scan:
    return Scan("tuned", "base", ("intruders", "update"), 4, 0.5, side, 0, matrices, warnings=("<b>",))


def test_counts_are_summed_norms_joined_and_ranks_averaged_over_what_is_known() -> None:
    record = scan(matrix("a", 2.0, 3.0, 4.0), matrix("b", 1.0, 4.0, None))
    assert record.total("intruders.count") == 3
    assert record.total("update.frobenius") == pytest.approx(5.0)
    assert record.total("update.effective_rank") == 4.0
    assert record.total("intruders.count", "dense gaussian") == 2.0
    assert record.total("base.edge") is None
    assert record.seconds == {"update": 1.0}


def test_a_right_sided_scan_speaks_of_its_own_side() -> None:
    assert scan(matrix("a", 2.0, 3.0, 4.0), side="right").total("intruders.count") == 3


def test_the_json_gives_the_record_back(tmp_path: Path) -> None:
    record = scan(matrix("a", 2.0, 3.0, None))
    (tmp_path / "scan.json").write_text(json.dumps(record.to_dict(), allow_nan=False))
    assert read_scan(tmp_path / "scan.json") == record


@pytest.mark.parametrize("text", ["[]", "{", '{"format": "other"}'])
def test_a_file_that_is_no_scan_is_named_with_the_remedy(tmp_path: Path, text: str) -> None:
    (tmp_path / "scan.json").write_text(text)
    with pytest.raises(DataError, match=r"spectra scan CKPT --json"):
        read_scan(tmp_path / "scan.json")


def test_a_missing_matrix_is_named() -> None:
    with pytest.raises(DataError, match="No matrix 'b' in the scan of 'tuned'"):
        scan(matrix("a", 2.0, 3.0, 4.0)).matrix("b")


def test_the_long_table_has_a_column_per_control_and_escapes_nothing_away() -> None:
    record = scan(matrix("a", 2.0, 3.0, 4.0))
    table = record.to_dataframe()
    assert list(table["metric"]) == ["intruders.count", "intruders.count", "update.frobenius", "update.effective_rank"]
    assert table["null_dense_gaussian"].tolist()[0] == 1.0
    nulls = record.to_dataframe("nulls")
    assert nulls[["null", "mean", "least", "most", "draws"]].values.tolist() == [["dense gaussian", 1.0, 0.5, 1.5, 3]]
    assert record.to_dataframe("matrices")["intruders.count.right"].tolist() == [3]
    assert "<b>" not in record._repr_html_()


def test_groups_are_chosen_by_name_alias_and_all() -> None:
    assert chosen_groups("nulls, ranks,intruders") == ("intruders", "update", "nulls")
    assert chosen_groups("all") == tuple(GROUPS)
