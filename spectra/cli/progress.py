"""Progress of work made of equal parts, on stderr: a bar on a terminal, a line now and then in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from spectra.cli.terminal import console, echo

LINE_SECONDS = 10.0
Result = TypeVar("Result")


def until_interrupted(call: Callable[[], Result], sentence: Callable[[Result], str]) -> tuple[Result, bool]:
    """The result of a call, or after Ctrl-C the part that is done; and whether Ctrl-C ended it.

    Args:
        call: A function of the facade.
        sentence: What stderr is told of the part that is done.
    """
    from spectra.records.interrupted import Interrupted

    try:
        return call(), False
    except Interrupted as cut:
        again = " Run the same command to continue." if cut.resumes else ""
        echo(f"{sentence(cut.result)}{again}", err=True)
        return cut.result, True


def notices(*, quiet: bool) -> Callable[[str], None] | None:
    """Where sentences on what is about to happen go: to stderr, or nowhere."""
    return None if quiet else partial(echo, err=True)


@contextmanager
def parts_progress(label: str, *, quiet: bool) -> Iterator[Callable[[int, int, str], None]]:
    """Yield a callback (done, all, name of the part just done) that shows progress with the time left.

    A command whose work has several stages calls it for one after the other.
    """
    if quiet:
        yield lambda done, total, name: None
    elif sys.stderr.isatty():
        with _bar(label) as show:
            yield show
    else:
        yield _lines(label)


@contextmanager
def _bar(label: str) -> Iterator[Callable[[int, int, str], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(label),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[name]}"),
    )
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None, name="")
        last = 0

        def show(done: int, total: int, name: str) -> None:
            nonlocal last
            if done < last:  # another stage begins
                bar.reset(task)
            last = done
            bar.update(task, completed=done, total=total, name=name)

        yield show


def _lines(label: str) -> Callable[[int, int, str], None]:
    began = last = time.monotonic()
    before = 0

    def show(done: int, total: int, name: str) -> None:
        nonlocal last, began, before
        now = time.monotonic()
        if done < before:  # another stage begins
            began = last
        before = done
        if now - last < LINE_SECONDS and done < total:
            return
        if done == total and now - began < LINE_SECONDS:
            return
        last = now
        left = (now - began) / max(done, 1) * (total - done)
        echo(f"{label}: {done} of {total}, about {left:.0f} s left ({name})", err=True)

    return show
