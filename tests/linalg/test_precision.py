"""Products in full precision, whatever the program around has asked of torch."""

from pathlib import Path

import pytest
import torch

import spectra
from spectra.linalg.precision import full_precision
from tests.scanning.checkpoints import save


@pytest.mark.parametrize("asked", ["highest", "high", "medium"])
def test_what_was_set_before_stands_again(asked: str) -> None:
    torch.set_float32_matmul_precision(asked)
    try:
        with full_precision():
            if hasattr(torch.backends.mkldnn, "matmul"):
                assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
                assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        assert torch.get_float32_matmul_precision() == asked
    finally:
        torch.set_float32_matmul_precision("highest")


def test_it_stands_again_after_an_error_too() -> None:
    torch.set_float32_matmul_precision("high")
    try:
        with pytest.raises(KeyError), full_precision():
            raise KeyError
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_nothing_is_rounded_under_autocast() -> None:
    W = torch.randn(8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (W @ W).dtype == torch.bfloat16
        with full_precision():
            assert (W @ W).dtype == torch.float32
        assert (W @ W).dtype == torch.bfloat16


def test_a_scan_under_autocast_is_the_same_scan(tmp_path: Path) -> None:
    saved = save(tmp_path)
    plain = spectra.intruders(saved.adapters[1], k=4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = spectra.intruders(saved.adapters[1], k=4)
    assert [m.vectors for m in found.matrices] == [m.vectors for m in plain.matrices]
