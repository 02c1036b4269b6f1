from pathlib import Path
from typing import Any

import pytest

from spectra.errors import RunError, SpecificationError
from spectra.study import read_study, study_presets
from spectra.sweep import Specification, presets, read_specification
from spectra.sweep.spec.kinds import TrainedTrial
from spectra.sweep.spec.plan import plan, repeated, share
from spectra.training.settings import TrainingSettings

MINIMAL: dict[str, Any] = {
    "base": "tiny",
    "task": "task.jsonl",
    "methods": [
        {"method": "full", "learning_rate": 1e-4},
        {"method": "lora", "rank": [1, 8], "alpha": ["2r", 8], "learning_rate": [1e-3, 1e-2]},
    ],
    "steps": 10,
}


def refusal(text: str, folder: Path) -> str:
    path = folder / "sweep.yaml"
    path.write_text(text)
    with pytest.raises(SpecificationError) as caught:
        read_specification(path)
    return str(caught.value).replace(str(path), "sweep.yaml")


def yaml_with(line: str = "", method: str = "") -> str:
    return f"""base: tiny
task: task.jsonl
{line}
methods:
  - method: lora
    rank: 8
    learning_rate: 1e-3
    {method}
steps: 10
"""


def test_every_combination_is_one_trial() -> None:
    trials = plan(read_specification({**MINIMAL, "seeds": [0, 1]}))
    assert len(trials) == 2 * (1 + 2 * 2 * 2)
    assert len({trial.id for trial in trials}) == len(trials)
    assert [trial.label for trial in trials[:3]] == ["full", "full", "LoRA r=1 α=2"]
    assert {trial.training.alpha for trial in trials} == {None, 2.0, 16.0, 8.0}


def test_alpha_is_twice_the_rank_unless_said_otherwise() -> None:
    values = {**MINIMAL, "methods": [{"method": "lora", "rank": [1, 8], "learning_rate": 1e-3}]}
    assert [trial.training.alpha for trial in plan(read_specification(values))] == [2.0, 16.0]


@pytest.mark.parametrize(
    ("alpha", "rate", "told"), [("16", 1e-3, 1), (16.0, [1e-2, 1e-3], 1), (64, 1e-3, 0), (16, 1e-2, 0)]
)
def test_rslora_that_scales_as_lora_does_is_told(alpha: float | str, rate: float | list[float], told: int) -> None:
    methods = [
        {"method": "lora", "rank": 64, "learning_rate": 1e-3},
        {"method": "rslora", "rank": 64, "alpha": alpha, "learning_rate": rate},
    ]
    sentences = repeated(plan(read_specification({**MINIMAL, "methods": methods, "seeds": [0, 1]})))
    assert len(sentences) == told
    assert all("rsLoRA r=64 α=16 and LoRA r=64 α=128" in one for one in sentences)


@pytest.mark.parametrize("name", [*presets(), *study_presets()])
def test_no_preset_trains_the_same_twice(name: str) -> None:
    read = read_study(name).sweep if name in study_presets() else read_specification(name)
    assert repeated(plan(read)) == []


def test_a_combination_that_two_rules_give_is_trained_once() -> None:
    values = {**MINIMAL, "methods": [{"method": "lora", "rank": 4, "alpha": "2r, 8", "learning_rate": 1e-3}]}
    assert len(plan(read_specification(values))) == 1


def test_a_learning_rate_may_depend_on_the_rank() -> None:
    method = {"method": "lora", "rank": [1, 8], "learning_rate": {1: 1e-2, 8: [1e-3, 3e-3]}}
    trials = plan(read_specification({**MINIMAL, "methods": [method]}))
    assert [(trial.training.rank, trial.training.learning_rate) for trial in trials] == [
        (1, 1e-2),
        (8, 1e-3),
        (8, 3e-3),
    ]


def test_the_identity_follows_the_settings_and_nothing_else() -> None:
    first = plan(read_specification(MINIMAL))
    renamed = plan(read_specification({**MINIMAL, "title": "other", "heldout": ["other.jsonl"], "keep": "all"}))
    longer = plan(read_specification({**MINIMAL, "steps": 11}))
    assert [trial.id for trial in first] == [trial.id for trial in renamed]
    assert not {trial.id for trial in first} & {trial.id for trial in longer}


def test_the_identity_of_a_trial_is_stable() -> None:
    # A changed value here would make every existing run folder train its trials again.
    assert [trial.id for trial in plan(read_specification(MINIMAL))][:2] == ["4a73f8dde6a5", "825f180b9b00"]


def test_trials_that_differ_in_rate_and_seed_form_a_group() -> None:
    trials = plan(read_specification({**MINIMAL, "seeds": [0, 1]}))
    sizes = {trial.group: sum(other.group == trial.group for other in trials) for trial in trials}
    assert sorted(sizes.values()) == [2, 4, 4, 4, 4]


def test_the_shares_are_the_sweep_and_divide_no_group() -> None:
    trials = plan(read_specification({**MINIMAL, "seeds": [0, 1]}))
    shares = [share(trials, part, 3) for part in (1, 2, 3)]
    assert sorted(trial.id for part in shares for trial in part) == sorted(trial.id for trial in trials)
    groups = [{trial.group for trial in part} for part in shares]
    assert all(not one & other for one in groups for other in groups if one is not other)
    with pytest.raises(
        RunError, match=r"Shard 6/6 is empty: .* differ in 5 configurations, .* Make at most 5 shards\."
    ):
        share(trials, 6, 6)


def test_axes_replace_the_values_of_every_method_that_has_them() -> None:
    trials = plan(read_specification(MINIMAL, ["rank=2..4", "alpha=r", "learning_rate=1e-3", "seed=0..1", "steps=7"]))
    assert {(trial.training.rank, trial.training.alpha) for trial in trials} == {(None, None), (2, 2), (3, 3), (4, 4)}
    assert {trial.training.seed for trial in trials} == {0, 1}
    assert {trial.training.steps for trial in trials} == {7}
    assert {trial.training.learning_rate for trial in trials} == {1e-3}


def test_the_method_axis_makes_a_method_in_the_image_of_the_first_adapter() -> None:
    trials = plan(read_specification(MINIMAL, ["method=dora,vera", "alpha=2r"]))
    assert {(trial.training.method, trial.training.rank, trial.training.alpha) for trial in trials} == {
        ("dora", 1, 2.0),
        ("dora", 8, 16.0),
        ("vera", 1, None),
        ("vera", 8, None),
    }


def test_a_specification_survives_its_own_record() -> None:
    read = read_specification(MINIMAL)
    assert Specification.model_validate(read.model_dump(mode="json", exclude_unset=True)) == read
    assert Specification.model_validate(read.model_dump(mode="json")) == read


@pytest.mark.parametrize("name", presets())
def test_every_preset_can_be_planned(name: str) -> None:
    assert len(plan(read_specification(name))) >= 3


@pytest.mark.parametrize(
    ("line", "method", "message"),
    [
        ("stepz: 3", "", "'sweep.yaml', line 3: 'stepz' is no field. Did you mean 'steps'?"),
        ("", "ranks: 3", "'sweep.yaml', line 8: 'methods.0.ranks' is no field. Did you mean 'rank'?"),
        (
            "batch_size: 0",
            "",
            "'sweep.yaml', line 3: batch_size: input should be greater than 0, not 0. Correct it.",
        ),
        (
            "",
            "alpha: two",
            "'sweep.yaml', line 8: methods.0.alpha.0: 'two' is no alpha; write a number, or a multiple of the rank "
            "such as 2r. Correct it.",
        ),
        (
            "epochs: 2",
            "",
            "'sweep.yaml': give either steps or epochs, and not both. Correct it.",
        ),
        (
            "schedule: triangle",
            "",
            "'sweep.yaml', line 3: schedule: input should be 'linear', 'cosine' or 'constant', not 'triangle'. "
            "Correct it.",
        ),
        (
            "seeds: [-1]",
            "",
            "'sweep.yaml', line 3: seeds.0: input should be greater than or equal to 0, not -1. Correct it.",
        ),
    ],
)
def test_an_error_names_the_field_the_line_and_the_remedy(line: str, method: str, message: str, tmp_path: Path) -> None:
    assert refusal(yaml_with(line, method), tmp_path) == message


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"method": "lorra", "rank": 1}, "method 'lorra' is unknown; choose one of full, lora"),
        ({"method": "lora"}, "method 'lora' needs a rank; add, for example, rank"),
        ({"method": "full", "rank": 8}, "method 'full' has no rank; remove it"),
        ({"method": "vera", "rank": 8, "alpha": 2}, "method 'vera' has no alpha; remove it"),
        ({"method": "full", "arguments": {"r": 1}}, "method 'full' takes no arguments; remove them"),
        ({"method": "lora", "rank": [1, 8], "learning_rate": {1: 1e-3}}, r"learning_rate has no entry for rank \[8\]"),
        ({"method": "lora", "rank": 1, "learning_rate": 3}, "input should be less than 1, not 3"),
    ],
)
def test_a_method_that_cannot_be_is_refused(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecificationError, match=message):
        read_specification({**MINIMAL, "methods": [{"learning_rate": 1e-3, **entry}]})


def test_missing_fields_are_named_together() -> None:
    with pytest.raises(SpecificationError) as caught:
        read_specification({"steps": 3})
    assert str(caught.value) == (
        "the specification: 'base' is missing. Add it. the specification: 'task' is missing. Add it. "
        "the specification: 'methods' is missing. Add it."
    )


def test_text_that_is_no_yaml_names_the_line(tmp_path: Path) -> None:
    assert refusal("base: tiny\ntask: [a\nsteps: 1\n", tmp_path).startswith("'sweep.yaml', line 3: this is no YAML")


def test_an_absent_file_names_the_presets(tmp_path: Path) -> None:
    with pytest.raises(SpecificationError, match=r"There is no specification '.*'\. Name a YAML file or one of"):
        read_specification(tmp_path / "absent.yaml")


def test_an_axis_without_values_is_refused() -> None:
    with pytest.raises(SpecificationError, match="'rank' on the command line is no axis"):
        read_specification(MINIMAL, ["rank"])


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ({"path": "data/reviews.csv"}, "reviews"),
        ({"hub": "org/topics"}, "topics"),
        ({"path": "a.csv", "name": "mine"}, "mine"),
        ("a.csv", "a.csv"),
    ],
)
def test_tables_call_a_task_as_its_data_are_called(task: Any, name: str) -> None:
    settings = TrainingSettings(base="base", method="full", learning_rate=1e-3, seed=0, steps=1)
    assert TrainedTrial(settings, task).task_name == name
