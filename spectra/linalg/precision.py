"""Products in the arithmetic that their tensors have, whatever the program around has asked of torch.

Every bound of this package counts roundings of float32 or float64. A training loop that sets
`torch.set_float32_matmul_precision("high")`, `tf32=True` or an autocast lets torch multiply float32 matrices with ten
(TF32) or seven (bfloat16) bits of mantissa: the bounds would be of other numbers than those computed.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

# Back ends that may multiply float32 matrices in fewer bits.
BACKENDS = ("cuda", "mkldnn")
FULL = "ieee"


@contextmanager
def full_precision() -> Iterator[None]:
    """No reduced arithmetic and no autocast inside; the settings of before stand again afterwards.

    Autocast is a setting of the thread: work that is given to other threads enters this once more there.
    """
    with ExitStack() as stack:
        stack.enter_context(_float32_products())
        for device in ("cuda", "cpu"):
            stack.enter_context(without_autocast(device))
        yield


@contextmanager
def without_autocast(device: str) -> Iterator[None]:
    """No autocast of one kind of device in this thread."""
    if not torch.is_autocast_enabled(device):
        yield
        return
    with torch.autocast(device, enabled=False):
        yield


@contextmanager
def _float32_products() -> Iterator[None]:
    matmuls: list[Any] = [getattr(getattr(torch.backends, name), "matmul", None) for name in BACKENDS]
    known = [each for each in matmuls if hasattr(each, "fp32_precision")]  # torch 2.9 and later
    if not known:
        asked = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(asked)
        return
    before = [each.fp32_precision for each in known]
    reduced = [each for each, value in zip(known, before, strict=True) if value != FULL]
    for each in reduced:
        each.fp32_precision = FULL
    try:
        yield
    finally:
        for each, value in zip(known, before, strict=True):
            if each in reduced:
                each.fp32_precision = value
