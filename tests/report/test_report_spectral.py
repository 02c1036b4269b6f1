"""The page of `spectra scan`: its verdicts, and every metric beside its controls."""

import json
from pathlib import Path

import pytest
from document import Document
from fabricated import scan_of
from test_report_packed import unpacked

from spectra.errors import RunError
from spectra.records import Grid, IntruderScan, MatrixScan, Measure, NullLine, Scan
from spectra.report import report_on

NULLS = ("storage rounding", "random low rank")


def spectral(scan: IntruderScan) -> Scan:
    """The same verdicts with norms, curves and controls beside them."""
    matrices = []
    for number, matrix in enumerate(scan.matrices):
        update = matrix.update
        assert update is not None
        norms = {name: getattr(update, name) for name in ("frobenius", "spectral", "relative", "effective_rank")}
        norms["stable_rank"] = update.stable_rank
        controls = tuple(NullLine(null, float(at), float(at), float(at), 1) for at, null in enumerate(NULLS))
        matrices.append(
            MatrixScan(
                name=matrix.name, layer=matrix.layer, role=matrix.role, block=matrix.block, shape=matrix.shape,
                method=matrix.method,
                measures=(
                    Measure("intruders.count", float(matrix.count), side="left", nulls=controls),
                    *(Measure(f"update.{name}", value) for name, value in norms.items()),
                ),
                vectors=matrix.vectors,
                grids=(Grid("similarity", "left", ((0.9, 0.1), (0.2, 0.01 * number))),),
                base_values=(3.0, 2.0), tuned_values=(3.1, 2.2), update_values=(0.5,), seconds={"intruders": 0.1},
            )
        )  # fmt: skip
    return Scan(
        scan.checkpoint, scan.base, ("intruders", "update", "nulls"), scan.k, scan.epsilon, "left", 0, tuple(matrices)
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Document:
    folder = tmp_path_factory.mktemp("spectral")
    (folder / "scan.json").write_text(json.dumps(spectral(scan_of(3, intruders=9)).to_dict()))
    return Document(report_on([folder / "scan.json"], folder / "scan.html"))


def test_the_verdicts_are_those_of_the_scan(page: Document) -> None:
    assert "9 intruder dimensions among 360 leading vectors of 36 matrices" in page.text
    matrices = scan_of(3, intruders=9).to_dataframe()
    for heading, column in {"Intruder dimensions": "count", "‖ΔW‖": "update_frobenius"}.items():
        assert [float(value or "nan") for _, value in page.column("matrices", heading)] == list(matrices[column])


def test_every_metric_stands_beside_its_controls(page: Document) -> None:
    scan = spectral(scan_of(3, intruders=9))
    metrics = [text for text, _ in page.column("controls", "Metric")]
    assert metrics[0] == "intruders.count" and "update.frobenius" in metrics
    shown = [float(value) if value else None for _, value in page.column("controls", "The checkpoint")]
    assert shown == [scan.total(metric) for metric in metrics]
    # Each matrix's control reaches 1, and there are 36.
    assert page.column("controls", "Random low rank")[0] == ("36", "36.0")
    assert page.column("controls", "Storage rounding")[0] == ("0", "0.0")


def test_the_counts_of_the_controls_are_drawn(page: Document) -> None:
    packed = page.data["figures"]["count-controls"]["table"]
    assert unpacked(packed["columns"]["what"], packed["rows"]) == ["the checkpoint", *NULLS]
    assert unpacked(packed["columns"]["count"], packed["rows"]) == [9, 0, 36]
    assert "the checkpoint: 9; storage rounding: 0; random low rank: 36" in page.text


def test_maps_and_spectra_are_those_that_the_scan_kept(page: Document) -> None:
    similarity = page.data["figures"]["similarity"]["table"]
    assert similarity["rows"] == 36 * 4
    assert unpacked(similarity["columns"]["cosine"], similarity["rows"])[4:8] == [0.9, 0.1, 0.2, 0.01]
    assert page.data["figures"]["spectrum"]["table"]["rows"] == 36 * 5


def test_a_scan_without_verdicts_is_refused(tmp_path: Path) -> None:
    content = spectral(scan_of(3)).to_dict()
    for matrix in content["matrices"]:
        matrix["vectors"] = []
    (tmp_path / "scan.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"has no intruder verdicts\. Scan again with --metrics intruders,update\.$"):
        report_on([tmp_path / "scan.json"], tmp_path / "scan.html")


def test_scans_of_both_commands_are_compared(tmp_path: Path) -> None:
    (tmp_path / "spectral.json").write_text(json.dumps(spectral(scan_of(3, intruders=9)).to_dict()))
    (tmp_path / "intruders.json").write_text(json.dumps(scan_of(4, intruders=2).to_dict()))
    sources = [tmp_path / "spectral.json", tmp_path / "intruders.json"]
    document = Document(report_on(sources, tmp_path / "both.html"))
    assert [value for _, value in document.column("trials", "Intruder dimensions")] == ["9", "2"]
