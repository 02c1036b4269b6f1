"""The charts of a study's page against plain loops over the tables of its run folder."""

from collections import defaultdict
from pathlib import Path
from statistics import fmean

import pyarrow.parquet as pq
import pytest

from spectra.report.study_figures import counts_against_rate, counts_beside_controls
from spectra.report.study_inputs import StudyMaterial, study_material

REPORTS = Path(__file__).resolve().parent.parent.parent / "reports"


@pytest.fixture(scope="module", params=["study", "study-minilm"])
def run(request: pytest.FixtureRequest) -> Path:
    return REPORTS / str(request.param) / "run"


@pytest.fixture(scope="module")
def material(run: Path) -> StudyMaterial:
    return study_material(run)


@pytest.fixture(scope="module")
def counts(run: Path) -> dict[tuple[str, float, bool], list[int]]:
    """Intruders of every trial that takes part, counted over single vectors, by label, learning rate and choice."""
    found: dict[str, int] = defaultdict(int)
    for row in pq.read_table(run / "tables" / "vectors.parquet").to_pylist():
        found[row["trial"]] += bool(row["is_intruder"])
    counts = defaultdict(list)
    for row in pq.read_table(run / "study" / "tables" / "study_trials.parquet").to_pylist():
        if row["used"]:
            counts[row["label"], row["learning_rate"], row["chosen"]].append(found[row["trial"]])
    return counts


def test_every_adapter_has_its_count_whether_or_not_full_fine_tuning_matches_it(
    material: StudyMaterial, counts: dict[tuple[str, float, bool], list[int]]
) -> None:
    figure = counts_beside_controls(material)
    assert figure is not None
    shown = {row["label"]: row["count"] for row in figure.table.to_dict("records") if row["what"] == "trained"}
    expected = {label: fmean(each) for (label, _, chosen), each in counts.items() if chosen and label != "full"}
    assert shown == pytest.approx(expected)
    controls = figure.table[figure.table["what"] == "null control"]
    assert set(controls["label"]) == set(expected)


def test_the_count_at_every_rate_is_the_mean_over_seeds(
    material: StudyMaterial, counts: dict[tuple[str, float, bool], list[int]]
) -> None:
    figure = counts_against_rate(material)
    assert figure is not None
    rows = figure.table.to_dict("records")
    shown = {(row["label"], row["learning_rate"], row["chosen"]): row["count"] for row in rows}
    assert shown == pytest.approx({setting: fmean(each) for setting, each in counts.items()})


def test_a_small_part_of_one_intruder_looks_small(run: Path, material: StudyMaterial) -> None:
    figure = counts_beside_controls(material)
    assert figure is not None
    scale = figure.chart.to_dict()["encoding"]["x"].get("scale", {})
    assert scale.get("domainMax") == (1 if run.parent.name == "study-minilm" else None)
