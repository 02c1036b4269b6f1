"""Planted studies get the right verdict, and null studies none, over many simulated tables."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest

from spectra.runs.study_schema import study_table
from spectra.statistics.adjusted_slope import adjusted_slope
from spectra.statistics.over_units import unit_intervals
from spectra.study import StudySettings, StudyTables, answers_of
from spectra.study.answers.over_seeds import over_seeds
from spectra.study.comparison import Answer, Comparison, joint_verdict
from tests.study.simulated import HELDOUT, Plant, simulated

ASKED = StudySettings.model_validate({"questions": ["a", "b", "c", "d"]})


def answered(tables: StudyTables, settings: StudySettings = ASKED) -> Mapping[str, Answer]:
    return {one.question: one for one in answers_of(tables, settings).answers}


def planted(plant: Plant, number: int) -> Mapping[str, str]:
    tables = simulated(plant, np.random.default_rng([7, number]))
    return {name: one.verdict for name, one in answered(tables).items()}


def test_forgetting_planted_in_the_intruders_is_found_by_association_and_by_intervention() -> None:
    found = [planted(Plant(world="intruders", contrast=True, rise=True), number) for number in range(2)]
    assert all(one["b"] == one["c"] == one["d"] == "supported" for one in found)


def test_forgetting_planted_in_the_norm_is_not_blamed_on_the_intruders() -> None:
    for shape in ("linear", "log", "square"):
        plant = Plant(world="norm", shape=shape, contrast=True, rise=True)
        found = planted(plant, 0)
        assert found["c"] != "supported" and found["d"] != "supported"


def test_two_hundred_null_studies_of_forgetting_and_norm_have_at_most_five_per_cent_false_slopes() -> None:
    generator = np.random.default_rng(0)
    clusters = np.repeat(np.arange(8), 4)
    wrong = 0
    for _ in range(200):
        z = np.tile(0.5 * np.arange(4), 8) + 0.1 * generator.normal(size=32)
        x = np.exp(z) + 0.3 * generator.normal(size=32)
        y = 0.5 * z + 0.05 * generator.normal(size=8)[clusters] + 0.05 * generator.normal(size=32)
        found = adjusted_slope(x, y, z, clusters, level=0.99, reliability=0.9).estimate
        wrong += found.is_positive or found.is_negative
    assert wrong <= 10


def test_intervals_over_three_seeds_cover_as_they_say() -> None:
    values = np.random.default_rng(1).normal(size=(20_000, 3))
    for level in (0.95, 0.99):
        _, low, high = unit_intervals(values, level=level)
        assert np.mean((low <= 0) & (high >= 0)) == pytest.approx(level, abs=0.005)


def test_two_seeds_are_not_enough() -> None:
    verdicts = planted(Plant(world="intruders", contrast=True, rise=True, seeds=2), 0)
    assert verdicts["a"] == verdicts["b"] == verdicts["d"] == "not enough settings"


def test_a_few_configurations_are_not_enough_for_an_association() -> None:
    tables = simulated(Plant(world="intruders", rise=True), np.random.default_rng(0))
    few = list(dict.fromkeys(tables.trials["label"]))[:3]
    tables = StudyTables(**{**vars(tables), "trials": tables.trials[tables.trials["label"].isin(few)]})
    answer = answered(tables)["c"]
    assert answer.verdict == "not enough settings"
    assert "3 configurations" in answer.sentence


def test_full_fine_tuning_with_an_addition_is_no_adapter() -> None:
    tables = simulated(Plant(contrast=True, rise=True), np.random.default_rng(3))
    arms = tables.trials[tables.trials["method"] == "full"].copy()
    arms[["method", "label"]] = "full-replay"
    arms[["trial", "count"]] = np.array([[f"{one}-replay", 250] for one in arms["trial"]], dtype=object)
    more = StudyTables(**{**vars(tables), "trials": pd.concat([tables.trials, arms], ignore_index=True)})
    plain, added = answered(tables)["a"], answered(more)["a"]
    assert added.sentence == plain.sentence and added.comparisons == plain.comparisons


def test_full_fine_tuning_is_interpolated_between_learning_rates_and_never_extrapolated() -> None:
    def row(method: str, rate: float, score: float, norm: float, count: int, **more: object) -> dict[str, object]:
        return {
            "trial": f"{method}-{rate}", "label": method, "method": method, "learning_rate": rate, "seed": 0,
            "validation_score": score, "update_relative": norm, "count": count, "control_count": 0, "used": True,
            "chosen": True, "excluded": "", **more,
        }  # fmt: skip

    trials = study_table(
        "study_trials",
        [row("full", 1e-3, 0.6, 0.1, 0), row("full", 1e-2, 0.8, 0.4, 10), row("lora", 1e-2, 0.7, 0.8, 9)],
    )
    empty = simulated(Plant(), np.random.default_rng(0))
    tables = StudyTables(**{**vars(empty), "trials": trials})
    matches = answers_of(tables, ASKED).tables["matches"].set_index("matched_on")
    assert matches.loc["score", "full_count"] == pytest.approx(5.0)
    assert np.isnan(matches.loc["norm", "full_count"])
    assert matches.loc["norm", "reason"] == "its norm is higher than that of full fine-tuning at any learning rate"


def test_configurations_of_which_none_has_a_figure_at_every_seed_are_not_enough() -> None:
    figures = pd.DataFrame({"label": ["one", "other"], "seed": [0, 1], "value": [1.0, 2.0], "variance": [1.0, 1.0]})
    whole = over_seeds("a", "x", figures, level=0.95, unit="", decides=True)[0]
    assert (whole.finding, whole.value) == ("not enough settings", None)
    assert "left out, for lack of some seeds: one, other" in whole.note


def test_an_intersection_needs_every_comparison() -> None:
    def one(low: float, high: float) -> Comparison:
        return Comparison(
            "a", "x", "all", "", (low + high) / 2, low, high, 0.95, 1.0, "", 3, 1, None, decides=True, expected=1
        )

    assert joint_verdict([one(1.0, 2.0), one(3.0, 4.0)]) == "supported"
    assert joint_verdict([one(-2.0, -1.0), one(-4.0, -3.0)]) == "contradicted"
    assert (
        joint_verdict([one(1.0, 2.0), one(-4.0, 3.0)])
        == joint_verdict([one(1.0, 2.0), one(-2.0, -1.0)])
        == "not distinguishable"
    )
    assert joint_verdict([]) == "not enough settings"


def test_every_comparison_says_what_it_could_have_seen() -> None:
    for answer in answered(simulated(Plant(), np.random.default_rng(3))).values():
        for one in answer.comparisons:
            assert one.low is None or one.smallest is None or one.smallest > 0
        assert all(one.smallest for one in answer.comparisons if one.decides and one.low is not None)
    assert HELDOUT in {one.heldout for one in answered(simulated(Plant(), np.random.default_rng(3)))["d"].comparisons}
