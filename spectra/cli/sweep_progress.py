"""The progress of a sweep on stderr: a bar on a terminal, plain lines in a log; time left in both."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from spectra.cli.terminal import console, echo, warn

if TYPE_CHECKING:
    from spectra.sweep import Event, Specification

LINE_SECONDS = 15.0  # between two lines of the same training in a log
TRAINING_SHARE = 0.7  # of a trial's time, until one has been timed


class Pace:
    """How much of the work is done, and how long the rest will take at the pace so far."""

    def __init__(self, trials: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.trials = trials
        self.finished = 0
        self._clock = clock
        self._began: float | None = None
        self._parts: dict[str, float] = {}

    def started(self, trial: str) -> None:
        """Work on a trial begins; the clock starts with the first one."""
        if self._began is None:
            self._began = self._clock()
        self._parts.setdefault(trial, 0.0)

    def trained(self, trial: str, step: int, steps: int) -> None:
        """So many optimiser steps of a trial are done."""
        self._parts[trial] = TRAINING_SHARE * step / max(steps, 1)

    def ended(self, trial: str) -> None:
        """A trial is done or given up."""
        self._parts.pop(trial, None)
        self.finished += 1

    @property
    def done(self) -> float:
        """Trials done, parts of trials included."""
        return float(min(self.finished + sum(self._parts.values()), self.trials))

    @property
    def seconds_left(self) -> float | None:
        """Estimate; None before anything is known."""
        if self._began is None or self.done < 0.02:
            return None
        return (self._clock() - self._began) / self.done * (self.trials - self.done)


def duration(seconds: float | None) -> str:
    """Rounded for people."""
    if seconds is None:
        return "time left not known yet"
    if seconds < 90:
        return f"about {max(5, 5 * round(seconds / 5))} s left"
    return f"about {round(seconds / 60)} min left"


@contextmanager
def shown_progress(
    specification: "Specification", out: Path, shard: tuple[int, int] | None, *, quiet: bool
) -> Iterator[Callable[["Event"], None]]:
    """Yield the callback that shows events on stderr; a Ctrl-C ends in one line."""
    from spectra.runs import Run
    from spectra.sweep.spec.plan import plan, repeated, share

    trials = share(plan(specification), *(shard or (1, 1)))
    folders = [Run(out).trial(trial.id) for trial in trials]
    finished = [folder for folder in folders if folder.is_finished or folder.stopped_at is not None]
    # Names of held-out tasks are known once they are opened; their number is enough, for none can be left out.
    measuring = sum(folder.is_finished and len(folder.measured) < len(specification.heldout) for folder in finished)
    pace = Pace(len(trials) - len(finished) + measuring)
    if not quiet:
        done = f", {len(finished) - measuring} of them done already" if len(finished) > measuring else ""
        done += f", {measuring} to be measured on a new held-out task" if measuring else ""
        echo(f"{len(trials)} trials{done}; run folder '{out}'", err=True)
        warn(repeated(trials))
    try:
        if quiet:
            yield lambda event: None
        elif sys.stderr.isatty():
            with _bar(pace, out) as on_event:
                yield on_event
        else:
            yield Lines(pace, out)
    except KeyboardInterrupt:
        echo("Stopped; nothing is lost. Run the same command to go on.", err=True)
        sys.exit(130)


def _count(pace: Pace, event: "Event") -> None:
    if event.job.kind != "trial":
        return
    if event.what == "started":
        pace.started(event.job.trial.id)
    elif event.what == "step":
        pace.trained(event.job.trial.id, event.step, event.steps)
    elif event.what in ("done", "failed", "stopped early"):
        pace.ended(event.job.trial.id)


def _sentence(event: "Event", out: Path | None) -> str:
    trial = event.job.trial.described()
    if event.job.kind == "base":
        return {"started": "base model: measuring", "done": "base model: done"}.get(event.what, "")
    where = str(trial["label"])
    if trial["learning_rate"] is not None:
        where += f", learning rate {trial['learning_rate']:g}, seed {trial['seed']}"
    match event.what:
        case "started":
            return f"{where}: {event.stage}"
        case "step":
            return f"{where}: training, step {event.step} of {event.steps}{_validation(event.validation)}"
        case "done":
            return f"{where}: {'tested' if event.job.kind == 'test' else f'done{_validation(_final(event, out))}'}"
        case "elsewhere":
            return f"{where}: another process works on it"
        case "paused":
            return f"{where}: paused until its other learning rates are as far"
        case "stopped early":
            return f"{where}: {event.message}"
        case _:
            return f"{where}: {event.what}: {event.message}"


def _final(event: "Event", out: Path | None) -> tuple[str, float] | None:
    """Metric and score of a finished training on the validation split, where the run folder is known."""
    from spectra.runs import Run

    metrics = (Run(out).trial(event.job.trial.id).metrics or {}) if out is not None else {}
    score = metrics.get("validation_score")
    return (str(metrics.get("task_metric")), score) if isinstance(score, float) else None


def _validation(scored: tuple[str, float] | None) -> str:
    """What the validation split says; a loss is stored as a score, of which more is better."""
    if scored is None:
        return ""
    metric, score = scored
    name, value = ("loss", -score) if "loss" in metric else (metric, score)
    return f", validation {name} {value:.4g}"


class Lines:
    """Plain lines: every stage, and a step now and then."""

    def __init__(self, pace: Pace, out: Path | None = None) -> None:
        self._pace = pace
        self._out = out
        self._lock = threading.Lock()
        self._said = 0.0

    def __call__(self, event: "Event") -> None:
        """Show one event."""
        with self._lock:
            _count(self._pace, event)
            now = time.monotonic()
            if event.what == "step" and now - self._said < LINE_SECONDS:
                return
            self._said = now
            pace = self._pace
            echo(
                f"[{pace.finished}/{pace.trials}] {_sentence(event, self._out)} ({duration(pace.seconds_left)})",
                err=True,
            )


@contextmanager
def _bar(pace: Pace, out: Path) -> Iterator[Callable[["Event"], None]]:
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (BarColumn(bar_width=20), TextColumn("{task.fields[left]}"), TextColumn("{task.description}"))
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=max(pace.trials, 1), left="")
        lock = threading.Lock()

        def on_event(event: "Event") -> None:
            with lock:
                _count(pace, event)
                said = _sentence(event, out)
                is_done = event.what == "done" and event.job.kind == "trial"
                if is_done or event.what in ("failed", "retried", "stopped early"):
                    progress.console.print(said, markup=False)
                left = f"{pace.finished}/{pace.trials}, {duration(pace.seconds_left)}"
                progress.update(task, completed=pace.done, description=said, left=left)

        yield on_event
