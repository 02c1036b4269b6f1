"""Small matrices side by side, one thread each.

LAPACK gains little from a second thread on a matrix of a few hundred columns, and the small products around it nothing;
two such matrices at once keep two cores busy. Large matrices use all threads, one after the other.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import torch

from spectra.linalg.threads import one_thread_each

Task = TypeVar("Task")
Result = TypeVar("Result")

# Entries up to which a matrix counts as small: 1,024 x 4,096.
LARGEST_ENTRIES = 1 << 22
# Started per thread beyond the one whose result is waited for, so that no thread idles and few results wait.
AHEAD = 2


def side_by_side(
    work: Callable[[Task], Result], tasks: Sequence[Task], is_small: Callable[[Task], bool]
) -> Iterator[Result]:
    """The results of all tasks: of the small ones first, in order, then of the others.

    Args:
        work: Does one task; called from several threads at once for the small ones.
        tasks: What is to be done.
        is_small: True for tasks that gain nothing from several threads.
    """
    threads = min(torch.get_num_threads(), os.cpu_count() or 1)
    small = [task for task in tasks if is_small(task)]
    if threads < 2 or len(small) < 2:
        small = []
    else:
        yield from _in_threads(work, small, threads)
    chosen = {id(task) for task in small}
    yield from (work(task) for task in tasks if id(task) not in chosen)


def _in_threads(work: Callable[[Task], Result], tasks: Sequence[Task], threads: int) -> Iterator[Result]:
    waiting = iter(tasks)
    with one_thread_each(threads) as pool:
        started = [pool.submit(work, task) for task in islice(waiting, AHEAD * threads)]
        while started:
            result = started.pop(0).result()
            started += [pool.submit(work, task) for task in islice(waiting, 1)]
            yield result
