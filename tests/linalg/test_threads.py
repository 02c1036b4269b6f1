"""One thread for small dense problems."""

from collections.abc import Iterator

import pytest
import torch

from spectra.linalg.threads import one_thread


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """Two threads, whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_one_thread_computes_inside_and_all_of_them_afterwards() -> None:
    with one_thread():
        assert torch.get_num_threads() == 1
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


def test_the_threads_come_back_after_an_error() -> None:
    @one_thread()
    def failing() -> None:
        assert torch.get_num_threads() == 1
        raise ValueError("an error")

    with pytest.raises(ValueError, match="an error"):
        failing()
    assert torch.get_num_threads() == 2
