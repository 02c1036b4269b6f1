"""Two trials, or held-out tasks, that differ in any field never share an identity; the fields are found, not listed.

Values come from the annotation of a field. A field of a new kind makes `values_of` raise, so that none is forgotten.
"""

import itertools
import types
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from annotated_types import Ge, Gt, Lt

from spectra.forgetting import HeldOut
from spectra.sweep.spec.kinds import ExistingCheckpoint, TaskSequence, TrainedTrial
from spectra.sweep.spec.plan import planned
from spectra.training.adapt import METHODS
from spectra.training.settings import Launch, TrainingSettings

LENGTHS = ("steps", "epochs")  # exactly one of them is given
OF_A_HELD_OUT_TASK = {"name", "data"}  # the name decides nothing, and the data's content is hashed by itself
SETTINGS = TrainingSettings(base="base", method="lora", learning_rate=1e-3, seed=0, steps=10)
CHECKPOINT = ExistingCheckpoint(base="base", checkpoint="adapter", label="adapter")
HELD_OUT = HeldOut("task:lm-loss", "lm-loss")


def values_of(annotation: Any, bounds: tuple[Any, ...] = ()) -> list[Any]:
    """Some values of a type, the empty ones first: those that a hash could take for absent."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return values_of(arguments[0], arguments[1:])
    if origin in (Union, types.UnionType):
        return list(itertools.chain.from_iterable(values_of(one, bounds) for one in arguments))
    if origin is Literal:
        return list(arguments)
    if origin is tuple:
        return [("one",), ("one", "two")]
    if origin is not None and issubclass(origin, Mapping):
        return [{}, {"a": 0}, {"a": None}, {"a": 1}]
    if annotation is type(None):
        return [None]
    if annotation is Launch:  # where its configuration lies, and on which device it runs, decides no figure
        return [Launch("a.yaml", 2, "ddp"), Launch("a.yaml", 3, "ddp"), Launch("a.yaml", 2, "fsdp2")]
    if annotation is bool:
        return [False, True]
    if annotation in (int, float):
        numbers = [annotation(one) for one in (0, 1, 2)] + ([0.25] if annotation is float else [])
        return [one for one in numbers if all(_is_within(one, bound) for bound in bounds)]
    if annotation is str:
        return ["one", "another"]
    raise TypeError(f"Say here which values {annotation} has.")


def _is_within(value: float, bound: Any) -> bool:
    if isinstance(bound, Gt):
        return bool(value > bound.gt)
    if isinstance(bound, Ge):
        return bool(value >= bound.ge)
    if isinstance(bound, Lt):
        return bool(value < bound.lt)
    raise TypeError(f"Say here what {bound} excludes.")


def differing(one: Any, field: str) -> list[Any]:
    """The same record with every value of a field."""
    if (type(one), field) == (TrainingSettings, "method"):
        return [replace(one, method=name) for name in METHODS]
    annotation = get_type_hints(type(one), include_extras=True)[field]
    return [replace(one, **{field: value}) for value in values_of(annotation)]


def settings_with(field: str) -> list[TrainingSettings]:
    if field not in LENGTHS:
        return differing(SETTINGS, field)
    values: dict[str, list[Any]] = {"steps": [1, 2], "epochs": [1.0, 2.0]}
    return [replace(SETTINGS, **{**dict.fromkeys(LENGTHS), field: value}) for value in values[field]]


def test_the_values_of_a_field_are_found() -> None:
    assert values_of(Annotated[int, Gt(0)] | None) == [1, 2, None]
    with pytest.raises(TypeError, match="Say here which values"):
        values_of(bytes)


@pytest.mark.parametrize("field", [one.name for one in fields(TrainingSettings)])
def test_trainings_that_differ_in_a_field_are_different_trials(field: str) -> None:
    given = settings_with(field)
    assert len(given) > 1
    for kind in (lambda one: TrainedTrial(one, "task"), lambda one: TaskSequence(one, ("a", "b"), merges=True)):
        trials = [planned(kind(one)) for one in given]
        assert len({trial.id for trial in trials}) == len(given)
        groups = {trial.group for trial in trials}
        assert len(groups) == (1 if field in ("learning_rate", "seed") else len(given))


@pytest.mark.parametrize("field", [one.name for one in fields(ExistingCheckpoint) if one.name != "task"])
def test_checkpoints_that_differ_in_a_field_are_different_trials(field: str) -> None:
    given = differing(CHECKPOINT, field)
    assert len({planned(one).id for one in given}) == len(given) > 1


def test_trials_on_different_tasks_are_different() -> None:
    tasks: list[Any] = ["a", "b", {"path": "a"}, {"path": "a", "seed": 0}, {"path": "a", "seed": 1}]
    sequences = [(("a", "b"), True), (("a", "b"), False), (("b", "a"), True), (("a",), True), (("a", "b", "c"), True)]
    kinds = [
        *(TrainedTrial(SETTINGS, task) for task in tasks),
        *(replace(CHECKPOINT, task=task) for task in (None, *tasks)),
        *(TaskSequence(SETTINGS, names, merges) for names, merges in sequences),
    ]
    assert len({planned(kind).id for kind in kinds}) == len(kinds)


@pytest.mark.parametrize("field", [one.name for one in fields(HeldOut) if one.name not in OF_A_HELD_OUT_TASK])
def test_held_out_tasks_that_differ_in_a_field_never_share_a_score(field: str) -> None:
    given = differing(HELD_OUT, field)
    assert len({one.identity for one in given}) == len(given) > 1
