"""Where the output of a job goes: the trial's own log, or the run's."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spectra.runs import Run
from spectra.sweep.execution.schedule import Job


def log_of(run: Run, job: Job) -> Path:
    """Where the output of a job goes."""
    return run.log if job.kind == "base" else run.trial(job.trial.id).log


def last_line(log: Path) -> str:
    """The last line of a log that says something."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] if log.exists() else []
    return lines[-1] if lines else "no message"


@contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """Send everything printed meanwhile, by Python or below it, to a log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = os.dup(1), os.dup(2)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    _point(log, log)
    os.close(log)
    try:
        yield
    finally:
        _point(*before)
        for descriptor in before:
            os.close(descriptor)


def _point(output: int, errors: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(output, 1)
    os.dup2(errors, 2)
