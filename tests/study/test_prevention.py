"""Question f on planted tables: an arm that forgets less is found, one that only learns less is not."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from spectra.runs.schema import tidy
from spectra.runs.study_schema import study_table
from spectra.study import StudySettings, StudyTables, answers_of
from spectra.study.answers.prevention import AT_EQUAL_SCORE, front, prevention_comparisons, prevention_verdict
from spectra.study.comparison import Answer
from tests.study.simulated import HELDOUT

RATES = (1e-3, 3e-3, 1e-2)
SEEDS = 5


def tables_of(arms: dict[str, dict[str, float]], noise: float = 0.01, seed: int = 0) -> StudyTables:
    """Plain LoRA forgets 0.3 nats per unit of score, an arm `less` of that; an arm learns `slower` by a score."""
    generator = np.random.default_rng(seed)
    trials, forgotten = [], []
    for label, arm in {"lora r=8": {}, **arms}.items():
        for position, rate in enumerate(RATES):
            for number in range(SEEDS):
                name = f"{label}-{position}-{number}"
                score = -4.0 + position - arm.get("slower", 0.0) + 0.02 * number
                trials.append(
                    {
                        "trial": name, "label": label, "method": label.split()[0], "rank": 8, "alpha": 16.0,
                        "learning_rate": rate, "seed": number, "chosen": position == arm.get("chosen", 2),
                        "validation_score": score, "task_score": score + generator.normal(0, noise),
                        "update_relative": 0.1 * (position + 1), "count": int(arm.get("count", 30)),
                        "control_count": 5, "used": True,
                    }
                )  # fmt: skip
                lost = 0.3 * (score + 5) * (1 - arm.get("less", 0.0)) + generator.normal(0, noise) + 0.05 * number
                forgotten.append({"trial": name, "heldout": HELDOUT, "forgetting": lost, "unit": "nats"})
    table = study_table("study_trials", trials)
    return StudyTables(
        trials=table,
        forgetting=tidy("forgetting", forgotten),
        trajectory=tidy("trajectory", []),
        interventions=tidy("interventions", []),
        contrasts=tidy("intervention_contrasts", []),
        primary=HELDOUT,
        trials_of_the_sweep=pd.DataFrame({"trial": table["trial"], "train_seconds": 7.0, "method": table["method"]}),
    )


def answered(tables: StudyTables) -> Answer:
    [answer] = answers_of(tables, StudySettings.model_validate({"questions": "f"})).answers
    return answer


def deciding(tables: StudyTables) -> dict[str, Any]:
    return {one.over: one for one in prevention_comparisons(tables, level=0.95) if one.name.endswith(AT_EQUAL_SCORE)}


def test_an_arm_that_forgets_less_at_equal_score_is_found_though_another_does_not() -> None:
    tables = tables_of({"budget": {"less": 0.4}, "other": {}})
    answer = answered(tables)
    assert answer.verdict == "supported" and answer.seeds == SEEDS
    found = deciding(tables)
    assert set(found) == {"budget", "other"} and found["budget"].decides
    # 0.4 of the 0.3 nats per unit of score that plain LoRA forgets 3.04 units above -5 (mean over seeds).
    assert found["budget"].value == pytest.approx(-0.4 * 0.3 * 3.04, abs=0.03)
    assert found["budget"].verdict == "supported" and found["other"].verdict == "not distinguishable"


def test_an_arm_that_only_learns_less_keeps_nothing_at_equal_score() -> None:
    """At its own rate it forgets less, and plain LoRA of the same score forgets as little."""
    tables = tables_of({"timid": {"slower": 0.5, "chosen": 2}}, noise=0.02)
    assert answered(tables).verdict == "not distinguishable"
    own = [one for one in prevention_comparisons(tables, level=0.95) if "own validated" in one.name and one.heldout]
    assert [one.finding for one in own] == ["supported"] and own[0].value < -0.1


def test_arms_that_all_forget_more_contradict_the_hypothesis() -> None:
    assert answered(tables_of({"bad": {"less": -0.4}, "worse": {"less": -0.6}})).verdict == "contradicted"


def test_an_arm_whose_rule_never_took_hold_is_said_to_be_no_different() -> None:
    found = deciding(tables_of({"idle": {}, "budget": {"less": 0.4}}, noise=0.0))
    assert (found["idle"].value, found["idle"].note) == (0.0, "no different in any seed")
    assert found["budget"].note == ""


def test_an_arm_beyond_the_scores_of_plain_lora_has_no_match() -> None:
    tables = tables_of({"far": {"slower": -5.0}})
    answer = answered(tables)
    assert answer.verdict == "not enough settings"
    assert "higher than that of plain LoRA of its rank at any learning rate" in answer.sentence


def test_false_findings_of_null_studies_with_several_arms_keep_the_level() -> None:
    wrong = 0
    for seed in range(15):
        tables = tables_of({name: {} for name in ("a", "b", "c")}, noise=0.05, seed=seed)
        wrong += prevention_verdict(prevention_comparisons(tables, level=0.95)) != "not distinguishable"
    assert wrong <= 3  # 5 % of 15 is less than 1; more than 3 have a chance below one in a hundred


def test_the_front_names_what_is_ahead() -> None:
    tables = tables_of({"better": {"less": 0.5, "slower": -0.1}, "slow": {"slower": 2.5}})
    table = front(tables, level=0.95).set_index("label")
    assert table["stands"].to_dict() == {
        "lora r=8": "behind better",
        "better": "on the front",
        "slow": "on the front",  # it forgets least of all, and learns least
    }
    row = table.loc["better"]
    assert row["train_seconds"] == 7.0 and row["forgetting_low"] < row["forgetting"] < row["forgetting_high"]


def test_two_equal_arms_are_never_said_to_be_behind_one_another() -> None:
    said = {stands for seed in range(8) for stands in front(tables_of({"equal": {}}, seed=seed), level=0.99)["stands"]}
    assert "not distinguishable from equal" in said or "not distinguishable from lora r=8" in said
    assert not any(one.startswith("behind") for one in said)


def test_without_plain_lora_nothing_is_compared() -> None:
    tables = tables_of({"budget": {}})
    alone = tables.trials[tables.trials["method"] != "lora"]
    bare = StudyTables(**{**vars(tables), "trials": alone})
    assert answered(bare).verdict == "not enough settings"
