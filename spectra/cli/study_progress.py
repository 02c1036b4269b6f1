"""The progress of a study on stderr: plain lines, with an estimate of the time left."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from spectra.cli.sweep_progress import LINE_SECONDS, Lines, Pace, duration
from spectra.cli.terminal import echo, warn

if TYPE_CHECKING:
    from spectra.study import Progress, StudySpecification
    from spectra.sweep import Event

Callbacks = tuple[Callable[["Event"], None], Callable[["Progress"], None]]


@contextmanager
def study_progress(
    specification: "StudySpecification", out: Path, shard: tuple[int, int] | None, *, quiet: bool
) -> Iterator[Callbacks]:
    """Yield what shows the events of sweeps and of interventions; a Ctrl-C ends in one line."""
    from spectra.runs import Run
    from spectra.study.advised import missing_advice
    from spectra.sweep.spec.plan import plan, repeated, share

    everything = plan(specification.sweep)
    labels = {trial.id: f"{trial.label}, seed {trial.seed}" for trial in everything}
    trials = share(everything, *(shard or (1, 1)))
    waiting = sum(not Run(out).trial(trial.id).is_finished for trial in trials)
    if not quiet:
        done = f", {len(trials) - waiting} of them done already" if waiting < len(trials) else ""
        echo(f"{len(trials)} trials{done}; run folder '{out}'", err=True)
        warn(repeated(trials))
    sweep = Lines(Pace(waiting))
    advised = cache(lambda: Lines(Pace(len(missing_advice(Run(out))))))  # the advice is there with its first event
    interventions = _Interventions(labels)
    try:
        if quiet:
            yield lambda event: None, lambda progress: None
        else:
            yield (lambda event: (sweep if event.job.trial.id in labels else advised())(event)), interventions
    except KeyboardInterrupt:
        echo("Stopped; nothing is lost. Run the same command to go on.", err=True)
        sys.exit(130)


class _Interventions:
    """A line at the end of every intervention, and one for its points now and then."""

    def __init__(self, labels: dict[str, str]) -> None:
        self._labels = labels
        self._said = 0.0

    def __call__(self, progress: "Progress") -> None:
        """Show how far an intervention is."""
        now = time.monotonic()
        if not progress.outcome and now - self._said < LINE_SECONDS:
            return
        self._said = now
        what = progress.outcome or f"point {progress.point} of {progress.points}"
        where = self._labels.get(progress.trial, progress.trial)
        left = "" if progress.finished == progress.of else f" ({duration(progress.seconds_left)})"
        echo(f"[intervention {progress.finished}/{progress.of}] {where}: {what}{left}", err=True)
