"""From a specification to its trials: each one's resolved settings, identity, label and group."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from spectra.errors import RunError, SpecificationError
from spectra.records.naming import told_apart
from spectra.sweep.spec.existing import existing_checkpoints, is_existing
from spectra.sweep.spec.specification import TRAINING, MethodSpecification, Specification
from spectra.sweep.spec.values import resolved_alpha
from spectra.training.adapt import METHODS
from spectra.training.settings import TrainingSettings


@dataclass(frozen=True)
class PlannedTrial:
    """One training run of a sweep, or one checkpoint that exists already.

    Attributes:
        id: Hash of the settings.
        label: What a person calls its configuration.
        group: Hash of the settings without learning rate and seed. Within a group the learning rate is chosen by the
            mean validation score over seeds.
        settings: The resolved settings.
    """

    id: str
    label: str
    group: str
    settings: TrainingSettings

    def described(self) -> dict[str, Any]:
        """What tells it from the other trials; a checkpoint that exists already has no learning rate and no seed."""
        given = is_existing(self.settings)
        return {
            "id": self.id,
            "label": self.label,
            "group": self.group,
            "learning_rate": None if given else self.settings.learning_rate,
            "seed": None if given else self.settings.seed,
        }


def planned(settings: TrainingSettings) -> PlannedTrial:
    """The trial with these settings."""
    values = settings.to_dict()
    return PlannedTrial(
        id=_hash(values),
        label=_label(settings),
        group=_hash({**values, "learning_rate": 1.0, "seed": 0}),
        settings=settings,
    )


def _label(settings: TrainingSettings) -> str:
    return str(settings.arguments["label"]) if is_existing(settings) else METHODS[settings.method].label(settings)


def plan(specification: Specification) -> tuple[PlannedTrial, ...]:
    """All trials, the trials of a group next to one another, none twice."""
    shared = {name: getattr(specification, name) for name in TRAINING} | {"task": specification.trained_on}
    trials = [
        planned(TrainingSettings(**shared, **own, seed=seed))
        for method in specification.methods
        for own in _configurations(method)
        for seed in specification.seeds
    ]
    trials += [planned(settings) for settings in existing_checkpoints(specification)]
    distinct = list({trial.id: trial for trial in trials}.values())
    return tuple(sorted(labelled(distinct), key=_by_group(trials)))


def labelled(trials: Sequence[PlannedTrial]) -> list[PlannedTrial]:
    """The same trials; configurations that share a label get what differs between them added to it."""
    first = {trial.group: trial for trial in reversed(trials)}
    labels = told_apart(
        {group: trial.label for group, trial in first.items()},
        {group: _facts(trial.settings) for group, trial in first.items()},
    )
    return [replace(trial, label=labels[trial.group]) for trial in trials]


def _facts(settings: TrainingSettings) -> dict[str, Any]:
    """All that makes a configuration: its settings, learning rate and seed aside."""
    known = {name: value for name, value in settings.to_dict().items() if name not in ("learning_rate", "seed")}
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
    given = {name: value for name, value in values.items() if value not in (None, {}, False)}
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:12]


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
