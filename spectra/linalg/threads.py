"""One thread for small dense problems: a second one makes them slower.

The projected problems of a Krylov run have some hundred columns. LAPACK calls many short parallel regions for such a
one, and wakes its threads for each: with threads that sleep while they wait (`OMP_WAIT_POLICY=PASSIVE`) the
eigenproblem of a 160 x 160 matrix takes 1.5 ms on one thread and 8 ms on two, that of a 768 x 768 matrix 39 and 112 ms.
Products with a large matrix are the other way about: they take all threads, each for rows of its own. That is twice as
fast as the parallel regions of a thin product, which wake sleeping threads for every block of rows.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Part = TypeVar("Part")
Result = TypeVar("Result")

_POOLS: dict[int, ThreadPoolExecutor] = {}  # by number of threads
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_POOLS.clear)  # a child process has none of its parent's threads


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread: as a context, or as a decorator of a function (`@one_thread()`).

    A thread of its own that has been limited to one already, as small matrices side by side have, changes nothing.
    """
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def one_thread_each(threads: int) -> Iterator[ThreadPoolExecutor]:
    """A pool whose workers compute with one thread each; what was not started is dropped on the way out."""
    pool = _pool(threads)
    with one_thread():  # the number is kept per thread by OpenMP and once for all by the BLAS library
        try:
            yield pool
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "spectra", initializer=torch.set_num_threads, initargs=(1,))


def in_threads(work: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """The results of all parts, worked on at the same time, one thread each; no part calls this again.

    The threads are kept for the next call: starting them takes as long as a thin product.
    """
    if len(parts) == 1:
        return [work(parts[0])]
    if len(parts) not in _POOLS:
        _POOLS[len(parts)] = _pool(len(parts))
    with one_thread():  # for the BLAS library, as above
        return list(_POOLS[len(parts)].map(work, parts))
