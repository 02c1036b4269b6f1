"""Where the output of a job goes: the trial's own log, or the run's."""

import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spectra.errors import SpectraError, without_secrets
from spectra.runs import Run
from spectra.sweep.execution.schedule import Job

LAST_LINES = 200
EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt)\b(?::|$)")


def log_of(run: Run, job: Job) -> Path:
    """Where the output of a job goes."""
    return run.log if job.kind == "base" else run.trial(job.trial.id).log


def sentence(error: BaseException, log: Path) -> str:
    """Why a job failed, in the exception's own words; for what nobody foresaw, with its kind and the log to read."""
    if isinstance(error, SpectraError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        where = f" at '{error.filename}'" if error.filename else ""
        return f"The system says: {error.strerror}{where}. Mend that and run the sweep again."
    lines = [line.strip() for line in without_secrets(str(error)).splitlines() if line.strip()]
    message = f": {lines[0].rstrip('.')}" if lines else ""
    return f"{type(error).__name__}{message}. Read '{log}'."


def told_traceback() -> str:
    """The traceback of the exception that is being handled, for a log: addresses in it without their secrets."""
    return without_secrets(traceback.format_exc())


def last_words(*logs: Path) -> str:
    """What a worker said last: the last exception in its logs, or else the last line that says something."""
    lines = [
        line
        for log in logs
        if log.exists()
        for line in log.read_text(errors="replace").splitlines()[-LAST_LINES:]
        if line.strip()
    ]
    exceptions = [line for line in lines if EXCEPTION.match(line)]
    return (exceptions or lines or ["no message"])[-1]


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
