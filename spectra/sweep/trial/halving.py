"""Successive halving: hopeless learning rates of a configuration are not trained to their end.

At each step that the specification names, every training of a configuration is paused and scored on the validation
split. The better half of its learning rates (of an odd number the larger half), by the mean over the seeds that all
share, goes on; the others are stopped for good. The rule is the same for every configuration, looks at nothing but
validation scores, and decides only when the whole configuration is there: so no order of the trials and no number of
workers changes what it decides.

Source: Jamieson and Talwalkar 2016, arXiv:1502.07943 (successive halving).
    Difference: the schedule of the learning rate is that of the whole training from the first step on, so a survivor is
    the training that it would have been; budgets are the steps that the user names.
"""

from collections.abc import Sequence

from spectra.runs import Run, TrialFolder
from spectra.storage import atomic
from spectra.sweep.spec.plan import PlannedTrial
from spectra.sweep.trial.learning_rate_selection import best_by_mean, rate_means


def next_pause(folder: TrialFolder, steps: Sequence[int] | None) -> int | None:
    """The first step at which it is still open whether a trial goes on; None where it trains to its end."""
    return next((step for step in sorted(steps or ()) if step not in folder.passed), None)


def halve(run: Run, group: Sequence[PlannedTrial], step: int) -> None:
    """Decide which of the trials that are paused at a step go on, and write it into their folders.

    Args:
        run: The run folder.
        group: All trials of a configuration.
        step: Where some of them are paused. Those that failed before count as hopeless; those that were decided on
            earlier stay as they were decided, and later ones are held against the same scores.
    """
    scores: dict[float | None, dict[int | None, float | None]] = {}
    for trial in sorted(group, key=lambda one: one.learning_rate or 0.0):
        folder = run.trial(trial.id)
        score = folder.scores_on_the_way.get(step)
        if score is not None or folder.failure:
            scores.setdefault(trial.learning_rate, {})[trial.seed] = score
    there = {rate: seeds for rate, seeds in scores.items() if any(score is not None for score in seeds.values())}
    kept = _best(there, (len(there) + 1) // 2)
    stopped = {one.learning_rate for one in group if run.trial(one.id).stopped_at == step}
    means = rate_means(there)
    for trial in group:
        folder = run.trial(trial.id)
        if step not in folder.scores_on_the_way or step in folder.passed or folder.stopped_at is not None:
            continue
        if trial.learning_rate in kept and trial.learning_rate not in stopped:
            folder.pass_on(step)
            continue
        said = ", ".join(f"{means[rate]:.4g} at {rate:g}" for rate in kept if rate is not None)
        folder.stop_early(
            step,
            f"Trial stopped early at step {step} because its learning rate {trial.learning_rate:g} had a mean "
            f"validation score of {means[trial.learning_rate]:.4g}, and the better half had {said}.",
        )
        with folder.claim() as mine:
            if mine:
                atomic.remove(folder.training)


def _best(scores: dict[float | None, dict[int | None, float | None]], count: int) -> list[float | None]:
    """The best learning rates, the best first."""
    left, found = dict(scores), list[float | None]()
    while len(found) < count and left:
        best = best_by_mean(left)
        if best not in left:
            break
        found.append(best)
        del left[best]
    return found
