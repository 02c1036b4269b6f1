"""Which job comes next: the base first, then the trials, and the test of a group as soon as the group is done."""

import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from spectra.runs import Run, TrialFolder
from spectra.sweep.spec.plan import PlannedTrial
from spectra.sweep.spec.specification import Keep
from spectra.sweep.trial.halving import halve
from spectra.sweep.trial.learning_rate_selection import chosen, groups

JobKind = Literal["base", "trial", "test"]
Outcome = Literal["done", "busy", "stopped", "paused"]
Happening = Literal["started", "step", "done", "elsewhere", "retried", "failed", "paused", "stopped early"]
RETRIES = 2
LOSSES = 5  # losses of one job before it counts as failed


@dataclass(frozen=True)
class Job:
    """One piece of work for a `Runner`."""

    kind: JobKind
    trial: PlannedTrial


@dataclass(frozen=True)
class Event:
    """Something happened to a job, for whoever shows it.

    Attributes:
        what: "started" with a stage; "step" within the training stage; "done"; "elsewhere" when another process works
            on it; "paused" until its configuration is as far; "retried", "failed" and "stopped early" with a message.
        job: The job.
        stage: What is being done now, such as "training" or "scanning".
        step: Optimiser steps done.
        steps: Optimiser steps in all; 0 when not known.
        validation: Metric and score of the last validation, once there was one in this training.
        message: Why it failed.
    """

    what: Happening
    job: Job
    stage: str = ""
    step: int = 0
    steps: int = 0
    validation: tuple[str, float] | None = None
    message: str = ""


OnEvent = Callable[[Event], None]


class Schedule:
    """Dispatches the jobs of a sweep and learns how they ended; may be asked from several threads.

    Args:
        run: The run folder.
        trials: The trials to do, groups together.
        keep: Which weights outlive the analysis.

    Attributes:
        size: Number of trials.
        stopped: True when nothing more is dispatched.
    """

    def __init__(self, run: Run, trials: tuple[PlannedTrial, ...], keep: Keep) -> None:
        self._run = run
        self._keep = keep
        self._groups = {group[0].group: group for group in groups(trials)}
        held_out = run.held_out
        unfinished = [trial for trial in trials if not _is_complete(run.trial(trial.id), held_out)]
        self._open: dict[str, set[str]] = {group: set() for group in self._groups}
        for trial in unfinished:
            self._open[trial.group].add(trial.id)
        self._paused: dict[str, set[str]] = {group: set() for group in self._groups}
        self._testing: dict[str, set[str]] = {}
        self._waiting: deque[Job] = deque([Job("base", trial) for trial in unfinished[:1]])
        self._later: deque[Job] = deque(Job("trial", trial) for trial in unfinished)
        self._held: list[Job] = []
        self._running = 0
        self._base_attempts = 0
        self._losses: Counter[tuple[str, str]] = Counter()
        self.size = len(trials)
        self._changed = threading.Condition()
        self.stopped = False
        for group, left in self._open.items():
            if not left:
                self._choose(group)

    def next_job(self, patience: float = 1.0) -> Job | None:
        """The next job; None when all is done or the sweep is being stopped. Waits while jobs depend on others."""
        with self._changed:
            while not self.stopped:
                if self._waiting:
                    self._running += 1
                    return self._waiting.popleft()
                if not self._running and not self._held:
                    return None
                if not self._changed.wait(patience) and self._held:
                    self._waiting.extend(self._held)  # what other processes worked on may be free or finished by now
                    self._held.clear()
            return None

    def stop(self) -> None:
        """Dispatch nothing more."""
        with self._changed:
            self.stopped = True
            self._changed.notify_all()

    def ended(self, job: Job, outcome: Outcome, on_event: OnEvent) -> None:
        """Learn how a job ended that did not fail, and tell the onlooker."""
        if outcome == "done":
            on_event(Event("done", job))
            self.done(job)
        elif outcome == "busy":
            on_event(Event("elsewhere", job))
            self.busy(job)
        elif outcome == "paused":
            on_event(Event("paused", job))
            for trial in self.paused(job):
                on_event(Event("stopped early", Job("trial", trial), message=self._run.trial(trial.id).why_stopped))
        else:
            self.put_back(job)

    def done(self, job: Job) -> None:
        """A job ended well."""
        with self._changed:
            self._running -= 1
            if job.kind == "base":
                self._waiting.extend(self._later)
                self._later.clear()
            elif job.kind == "trial":
                self._left_open(job.trial)
            else:
                self._tested(job.trial)
            self._changed.notify_all()

    def paused(self, job: Job) -> list[PlannedTrial]:
        """A trial is scored on its way; when its configuration is as far, it is decided which trials go on.

        Returns:
            The trials that were stopped.
        """
        with self._changed:
            self._running -= 1
            self._paused[job.trial.group].add(job.trial.id)
            stopped = self._halve(job.trial.group)
            self._changed.notify_all()
            return stopped

    def _halve(self, group: str) -> list[PlannedTrial]:
        """Let the better half of the paused trials go on, once nothing of their configuration is still on its way."""
        paused, stopped = self._paused[group], list[PlannedTrial]()
        if not paused or self._open[group] - paused:
            return []
        trials = [trial for trial in self._groups[group] if trial.id in paused]
        steps = {trial.id: _pause(self._run.trial(trial.id)) for trial in trials}
        first = min(steps.values())
        halve(self._run, self._groups[group], first)
        decided = [trial for trial in trials if steps[trial.id] == first]
        paused.difference_update(trial.id for trial in decided)
        for trial in decided:
            if self._run.trial(trial.id).stopped_at is None:
                self._waiting.append(Job("trial", trial))
            else:
                stopped.append(trial)
        for trial in stopped:
            self._left_open(trial)
        return stopped

    def busy(self, job: Job) -> None:
        """Another process works on it: ask again when nothing else is left."""
        with self._changed:
            self._running -= 1
            self._held.append(job)
            self._changed.notify_all()

    def failed(self, job: Job, error: str, *, again: bool) -> bool:
        """A job failed; it is tried again at most twice, and only if that can help.

        Returns:
            Whether it will be tried again.
        """
        with self._changed:
            self._running -= 1
            attempts = self._attempts(job, error)
            retry = again and attempts <= RETRIES
            if retry:
                self._waiting.append(job)
            elif job.kind == "trial":
                self._left_open(job.trial)
            # The weights of a group whose test failed stay for the next call.
            self._changed.notify_all()
            return retry

    def _attempts(self, job: Job, error: str) -> int:
        """Failed attempts at a job so far, this one included; a trial's are kept in its folder."""
        if job.kind != "base":
            return self._run.trial(job.trial.id).record_failure(error)
        self._base_attempts += 1
        return self._base_attempts

    def lost(self, job: Job) -> bool:
        """A job was lost with its node: it is dispatched again, up to `LOSSES` times.

        Returns:
            Whether it will be dispatched again; if not, it has failed.
        """
        with self._changed:
            self._losses[job.kind, job.trial.id] += 1
            if self._losses[job.kind, job.trial.id] > LOSSES:
                return False
            self._running -= 1
            self._waiting.append(job)
            self._changed.notify_all()
            return True

    def put_back(self, job: Job) -> None:
        """A job was stopped on request."""
        with self._changed:
            self._running -= 1
            self._changed.notify_all()

    def _left_open(self, trial: PlannedTrial) -> None:
        """One trial of a group less; the last one makes the choice."""
        self._open[trial.group].discard(trial.id)
        if not self._open[trial.group]:
            self._choose(trial.group)
        elif not self._open[trial.group] - self._paused[trial.group]:
            self._halve(trial.group)

    def _choose(self, group: str) -> None:
        """Every trial of the group is done: test those at the best learning rate, before anything else."""
        winners = [one for one in chosen(self._run, self._groups[group]) if self._run.trial(one.id).test is None]
        self._testing[group] = {winner.id for winner in winners}
        self._waiting.extendleft(Job("test", winner) for winner in winners)
        self._drop_if_tested(group)

    def _tested(self, trial: PlannedTrial) -> None:
        self._testing[trial.group].discard(trial.id)
        self._drop_if_tested(trial.group)

    def _drop_if_tested(self, group: str) -> None:
        """Every row of the group is written: weights that are not kept may go."""
        if self._testing[group] or self._keep == "all":
            return
        for trial in self._groups[group]:
            folder = self._run.trial(trial.id)
            with folder.claim() as mine:
                if mine and folder.is_finished:
                    folder.drop_weights(adapters=self._keep == "none")


def _is_complete(folder: TrialFolder, held_out: frozenset[str]) -> bool:
    """Whether nothing is left to do of a trial: a held-out task may have been added since it was finished."""
    return folder.stopped_at is not None or (folder.is_finished and held_out <= folder.measured)


def _pause(folder: TrialFolder) -> int:
    """Where a paused trial stands."""
    return min(set(folder.scores_on_the_way) - folder.passed)
