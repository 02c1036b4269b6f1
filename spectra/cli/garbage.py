"""Garbage collection of short commands, which make many objects that last as long as they do."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Search nothing for garbage: nearly all that is made lasts as long as the command, the libraries first of all."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
