"""The learning rate of a configuration: chosen on the validation score alone, never on what is studied."""

import math
from collections.abc import Iterable, Sequence
from statistics import fmean

from spectra.runs import Run
from spectra.sweep.spec.plan import PlannedTrial


def groups(trials: Iterable[PlannedTrial]) -> list[list[PlannedTrial]]:
    """Trials that differ in learning rate and seed only, together."""
    found: dict[str, list[PlannedTrial]] = {}
    for trial in trials:
        found.setdefault(trial.group, []).append(trial)
    return list(found.values())


def chosen(run: Run, group: Sequence[PlannedTrial]) -> list[PlannedTrial]:
    """The finished trials of a group at the learning rate with the best mean validation score over seeds.

    A rate at which a seed failed is passed over if another rate has all seeds; of equal scores the smaller rate wins.
    Empty if no trial of the group is finished.
    """
    scores: dict[float, list[float]] = {}
    for trial in group:
        folder = run.trial(trial.id)
        metrics = folder.metrics
        if folder.is_finished and metrics is not None:
            scores.setdefault(trial.settings.learning_rate, []).append(metrics.get("validation_score", -math.inf))
    if not scores:
        return []
    best = max(scores, key=lambda rate: (len(scores[rate]), _finite(fmean(scores[rate])), -rate))
    return [trial for trial in group if trial.settings.learning_rate == best and run.trial(trial.id).is_finished]


def _finite(score: float) -> float:
    return score if math.isfinite(score) else -math.inf
