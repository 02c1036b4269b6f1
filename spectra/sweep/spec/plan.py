"""From a specification to its trials: what each one is, its identity, label and group."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import PurePath
from typing import Any

from spectra.errors import RunError, SpecificationError
from spectra.records.naming import told_apart
from spectra.storage.keyed import digest
from spectra.sweep.spec.kinds import ExistingCheckpoint, TaskSequence, TrainedTrial, TrialKind
from spectra.sweep.spec.launch import read_launch
from spectra.sweep.spec.specification import MethodSpecification, Specification
from spectra.sweep.spec.values import resolved_alpha
from spectra.training.adapt import scaling
from spectra.training.settings import Recipe, Scoring, TrainingSettings


@dataclass(frozen=True)
class PlannedTrial:
    """One row of a sweep's table.

    Attributes:
        id: Hash of everything that decides its figures.
        label: What a person calls its configuration.
        group: The same hash without learning rate and seed. Within a group the learning rate is chosen by the mean
            validation score over seeds.
        kind: What it is.
    """

    id: str
    label: str
    group: str
    kind: TrialKind

    @property
    def training(self) -> TrainingSettings | None:
        """How it is trained; None for a checkpoint that exists already."""
        return None if isinstance(self.kind, ExistingCheckpoint) else self.kind.settings

    @property
    def learning_rate(self) -> float | None:
        """Peak learning rate; None for a checkpoint that exists already."""
        return None if self.training is None else self.training.learning_rate

    @property
    def seed(self) -> int | None:
        """Seed of the training; None for a checkpoint that exists already."""
        return None if self.training is None else self.training.seed

    def described(self) -> dict[str, Any]:
        """What tells it from the other trials."""
        names = ("id", "label", "group", "learning_rate", "seed")
        return {name: getattr(self, name) for name in names}


def planned(kind: TrialKind) -> PlannedTrial:
    """The trial that is this."""
    values = kind.identity()
    return PlannedTrial(
        id=_hash(values), label=kind.label, group=_hash({**values, "learning_rate": 1.0, "seed": 0}), kind=kind
    )


def plan(specification: Specification) -> tuple[PlannedTrial, ...]:
    """All trials, the trials of a group next to one another, none twice."""
    trials = [planned(kind) for kind in _kinds(specification)]
    distinct = list({trial.id: trial for trial in trials}.values())
    return tuple(sorted(labelled(distinct), key=_by_group(trials)))


def _kinds(specification: Specification) -> Iterator[TrialKind]:
    shared = {one.name: getattr(specification, one.name) for one in fields(Recipe)}
    for method in specification.methods:
        asked = method.launch or specification.launch
        launch = None
        if asked is not None:
            launch = read_launch(
                asked.accelerate, precision=specification.precision, batch_size=specification.batch_size
            )
        for own in _configurations(method):
            for seed in specification.seeds:
                settings = TrainingSettings(**shared, **own, seed=seed, launch=launch)
                if specification.tasks:
                    yield TaskSequence(settings, tuple(specification.tasks), specification.merges)
                else:
                    yield TrainedTrial(settings, specification.task or "")
    scoring = {one.name: shared[one.name] for one in fields(Scoring)}
    for there in specification.checkpoints:
        yield ExistingCheckpoint(
            **scoring,
            checkpoint=there.checkpoint,
            label=there.label or PurePath(there.checkpoint).name,
            task=specification.task,
            method=there.method or "checkpoint",
            rank=there.rank,
            alpha=there.alpha,
        )


def labelled(trials: Sequence[PlannedTrial]) -> list[PlannedTrial]:
    """The same trials; configurations that share a label get what differs between them added to it."""
    first = {trial.group: trial for trial in reversed(trials)}
    labels = told_apart(
        {group: trial.label for group, trial in first.items()},
        {group: _facts(trial.kind) for group, trial in first.items()},
    )
    return [replace(trial, label=labels[trial.group]) for trial in trials]


def repeated(trials: Sequence[PlannedTrial]) -> list[str]:
    """A sentence for each configuration of rsLoRA that trains what one of LoRA trains, at least at one learning rate.

    alpha / sqrt(r) is the factor of alpha sqrt(r) / r: whoever compares the two compares a training with itself.
    """
    plain = {_hash({**one.kind.identity(), "seed": 0}): one.label for one in trials if _method(one) == "lora"}
    found = {}
    for trial in trials:
        if _method(trial) == "rslora" and trial.training is not None and (factor := scaling(trial.training)):
            alpha = factor * float(trial.training.rank or 0)
            as_lora = _hash({**trial.kind.identity(), "method": "lora", "alpha": alpha, "seed": 0})
            if as_lora in plain:
                found[trial.label, plain[as_lora]] = factor
    return [
        f"{one} and {other} scale their update by the same factor, {factor:g}: they are one training, done twice. "
        "Give one of them another alpha."
        for (one, other), factor in found.items()
    ]


def _method(trial: PlannedTrial) -> str:
    return "" if trial.training is None else trial.training.method


def _facts(kind: TrialKind) -> dict[str, Any]:
    """All that makes a configuration: learning rate and seed aside."""
    known = {name: value for name, value in kind.identity().items() if name not in ("learning_rate", "seed")}
    return {**known.pop("arguments"), **known}


def _by_group(trials: list[PlannedTrial]) -> Any:
    order = {group: position for position, group in enumerate(dict.fromkeys(trial.group for trial in trials))}
    return lambda trial: order[trial.group]


def _configurations(method: MethodSpecification) -> Iterator[dict[str, Any]]:
    """Every combination of rank, alpha and learning rate of one entry."""
    modules = method.target_modules if isinstance(method.target_modules, str) else tuple(method.target_modules)
    ranks: list[int | None] = [*method.rank] or [None]
    alphas: list[float | str | None] = [*method.alpha] or [None]
    for rank in ranks:
        for alpha in alphas:
            for rate in _rates(method, rank):
                yield {
                    "method": method.method,
                    "rank": rank,
                    "alpha": _alpha(alpha, rank),
                    "learning_rate": rate,
                    "target_modules": modules,
                    "arguments": method.arguments,
                }


def _rates(method: MethodSpecification, rank: int | None) -> list[float]:
    if isinstance(method.learning_rate, Mapping):
        return list(method.learning_rate[rank])  # type: ignore[index]
    return list(method.learning_rate)


def _alpha(alpha: float | str | None, rank: int | None) -> float | None:
    if isinstance(alpha, str) and rank is None:
        raise SpecificationError(f"alpha is the rule '{alpha}', but the method has no rank. Give alpha as a number.")
    return None if alpha is None else resolved_alpha(alpha, rank or 0)


def _hash(values: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits. Absent values are left out, so that a field added later moves no old trial."""
    given = {name: value for name, value in values.items() if value or value not in (None, {}, False)}
    return digest(given)[:12]


def share(trials: tuple[PlannedTrial, ...], part: int, of: int) -> tuple[PlannedTrial, ...]:
    """The part-th share (from 1) of the trials. A group is never divided: its learning rate is chosen in one place.

    Raises:
        RunError: If there is no such share, or it is empty.
    """
    if not 1 <= part <= of:
        raise RunError(f"Shard {part}/{of} does not exist. Give i/n with i from 1 to n.")
    groups = list(dict.fromkeys(trial.group for trial in trials))
    mine = set(groups[part - 1 :: of])
    if not mine:
        raise RunError(
            f"Shard {part}/{of} is empty: the trials differ in {len(groups)} configurations, and one is never divided. "
            f"Make at most {len(groups)} shards."
        )
    return tuple(trial for trial in trials if trial.group in mine)
