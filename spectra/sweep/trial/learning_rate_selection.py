"""What is best: a learning rate, or a configuration, by its mean validation score over the seeds that all share.

Never by what is studied: the choice looks at no intruder and at no held-out task.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, TypeVar

from spectra.runs import Run
from spectra.sweep.spec.plan import PlannedTrial

if TYPE_CHECKING:
    import pandas as pd

Candidate = TypeVar("Candidate")
BySeed = Mapping[int | None, float | None]  # the validation score at each seed; None where that seed failed


def best_by_mean(scores: Mapping[Candidate, BySeed]) -> Candidate | None:
    """The candidate with the best mean score over the seeds that every candidate has.

    A mean over other seeds would compare luck. Therefore

    - a candidate that failed at a seed is passed over if another one never did;
    - while no seed is common to all, those with the fewest seeds are passed over; if all have equally many and still
      share none, each is judged by its own seeds;
    - of equal means the candidate that stands first wins.

    Args:
        scores: By candidate and seed, higher is better; None says that the training at this seed failed.

    Returns:
        None where no candidate has a score.
    """
    finished = {
        one: {seed: score for seed, score in seeds.items() if score is not None} for one, seeds in scores.items()
    }
    some = [one for one, seeds in finished.items() if seeds]
    left = [one for one in some if len(finished[one]) == len(scores[one])] or some
    while left:
        common = set.intersection(*(set(finished[one]) for one in left))
        fewest = min(len(finished[one]) for one in left)
        more = [one for one in left if len(finished[one]) > fewest]
        if common or not more:
            return max(left, key=lambda one: _mean(finished[one], common))
        left = more
    return None


def rate_means(scores: Mapping[Candidate, BySeed]) -> dict[Candidate, float]:
    """The mean score of each candidate over the seeds that all have; over its own where they share none."""
    finished = {
        one: {seed: score for seed, score in seeds.items() if score is not None} for one, seeds in scores.items()
    }
    common = set.intersection(*map(set, finished.values())) if finished else set()
    return {one: _mean(seeds, common) for one, seeds in finished.items() if seeds}


def _mean(seeds: Mapping[int | None, float], common: set[int | None]) -> float:
    mean = fmean(score for seed, score in seeds.items() if seed in common or not common)
    return mean if math.isfinite(mean) else -math.inf


def groups(trials: Iterable[PlannedTrial]) -> list[list[PlannedTrial]]:
    """Trials that differ in learning rate and seed only, together."""
    found: dict[str, list[PlannedTrial]] = {}
    for trial in trials:
        found.setdefault(trial.group, []).append(trial)
    return list(found.values())


def chosen(run: Run, group: Sequence[PlannedTrial]) -> list[PlannedTrial]:
    """The finished trials of a group at its best learning rate (see `best_by_mean`); of equal rates the smaller one.

    A trial that was stopped early has no score at the end of training, and its rate is never chosen.

    Empty if no trial of the group is finished.
    """
    scores: dict[float | None, dict[int | None, float | None]] = {}
    for trial in sorted(group, key=lambda one: one.learning_rate or 0.0):
        folder = run.trial(trial.id)
        if folder.stopped_at is not None:
            continue
        by_seed = scores.setdefault(trial.learning_rate, {})
        if folder.is_finished:
            by_seed[trial.seed] = (folder.metrics or {}).get("validation_score", -math.inf)
        elif folder.failure:
            by_seed[trial.seed] = None
    stopped = {one.learning_rate for one in group if run.trial(one.id).stopped_at is not None}
    best = best_by_mean({rate: seeds for rate, seeds in scores.items() if rate not in stopped})
    return [trial for trial in group if trial.learning_rate == best and run.trial(trial.id).is_finished]


def best_configuration(trials: "pd.DataFrame") -> "pd.DataFrame":
    """Of a run's trials table, the trials of the best configuration at its chosen learning rate, by seed.

    Args:
        trials: Rows of the trials table; what is not chosen, or not finished, does not count.

    Returns:
        Empty where nothing is chosen.
    """
    usable = trials[(trials["status"] == "done") & trials["chosen"].fillna(False).astype(bool)]
    scores: dict[str, dict[int | None, float | None]] = {}
    for row in usable.to_dict("records"):
        score = row["validation_score"]
        by_seed = scores.setdefault(str(row["label"]), {})
        by_seed[None if row["seed"] is None or row["seed"] != row["seed"] else int(row["seed"])] = (
            -math.inf if score is None or score != score else float(score)
        )
    return usable[usable["label"].isin([best_by_mean(scores)])].sort_values(by=["seed"])
