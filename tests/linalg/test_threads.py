"""One thread for small dense problems."""

import multiprocessing
import threading
from collections.abc import Iterator

import pytest
import torch

from spectra.linalg.operators import Dense
from spectra.linalg.threads import in_threads, one_thread


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


def test_parts_are_worked_on_in_order_with_one_thread_each() -> None:
    meeting = threading.Barrier(2, timeout=20)  # passed only where both parts are under way at once

    def work(part: int) -> tuple[int, int]:
        meeting.wait()
        return part, torch.get_num_threads()

    assert in_threads(work, [1, 2]) == [(1, 1), (2, 1)]
    assert torch.get_num_threads() == 2


@pytest.mark.skipif("mkl_get_max_threads" not in torch.__config__.parallel_info(), reason="torch without MKL")
def test_the_blas_library_takes_one_thread_in_a_part_whatever_was_set_before() -> None:
    def blas_threads(part: int) -> str:
        info = torch.__config__.parallel_info()
        return next(line.split(":")[1].strip() for line in info.splitlines() if "mkl_get_max_threads" in line)

    in_threads(blas_threads, [1, 2])
    with one_thread():
        pass  # which sets the library's number back to two, for the threads of the pool as well
    assert in_threads(blas_threads, [1, 2]) == ["1", "1"]


def test_an_error_in_a_part_is_the_callers() -> None:
    def failing(part: int) -> None:
        raise ValueError(f"part {part}")

    with pytest.raises(ValueError, match="part 1"):
        in_threads(failing, [1, 2])
    assert in_threads(lambda part: part, [1, 2]) == [1, 2]


def test_a_forked_process_has_threads_of_its_own() -> None:
    assert in_threads(lambda part: part, [1, 2]) == [1, 2]
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=lambda: theirs.send(in_threads(lambda part: part + 1, [1, 2])))
    child.start()
    assert ours.poll(20) and ours.recv() == [2, 3]
    child.join(20)
    assert child.exitcode == 0


@pytest.mark.parametrize("shape", [(1500, 1400), (2049, 1024), (3, 1_000_000)])
def test_a_gram_product_by_rows_is_the_product(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    W = torch.nn.Parameter(torch.randn(shape, generator=generator))
    X = torch.randn(shape[1], 5, generator=generator)
    found = Dense(W.detach()).gram(X)
    expected = W.detach().double().mH @ (W.detach().double() @ X.double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert not Dense(W).gram(X).requires_grad
