"""One thread for small dense problems: a second one makes them slower.

The projected problems of a Krylov run have some hundred columns. LAPACK calls many short parallel regions for such a
one, and wakes its threads for each: with threads that sleep while they wait (`OMP_WAIT_POLICY=PASSIVE`) the
eigenproblem of a 160 x 160 matrix takes 1.5 ms on one thread and 8 ms on two, that of a 768 x 768 matrix 39 and 112 ms.
Products with a large matrix are the other way about: they take all threads.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


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
