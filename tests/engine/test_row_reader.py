"""Rows of matrices beyond the memory: what is held, what is read again, and whose rows give way."""

import torch

from spectra.engine.row_reader import HeldRows, RowReader
from spectra.engine.storage import Budget, as_operator, reads_of
from spectra.linalg.krylov import gram_together
from spectra.linalg.operators import Dense, LowRankUpdate, RowChunked
from spectra.weights import StoredMatrix
from spectra.weights.formats.memory import TensorInMemory

W = torch.randn(60, 16, generator=torch.Generator().manual_seed(0))
ROW = 16 * 4


def matrix(W: torch.Tensor = W) -> StoredMatrix:
    return StoredMatrix.of(TensorInMemory.of("w", W))


def passed(reader: RowReader, times: int = 1) -> None:
    for _ in range(times):
        rows = [reader(start, start + 10) for start in range(0, 60, 10)]
        assert torch.equal(torch.cat(rows), W)


def test_every_pass_is_a_read_where_nothing_is_held() -> None:
    reader = RowReader(matrix(), HeldRows(0))
    passed(reader, 3)
    assert reader.reads == 3


def test_rows_that_are_held_are_read_once() -> None:
    reader = RowReader(matrix(), HeldRows(30 * ROW))
    passed(reader, 5)
    assert reader.held_bytes == 30 * ROW
    assert reader.reads == 1 + 4 * 0.5


def test_the_matrix_that_is_passed_over_again_takes_the_rows_of_the_other() -> None:
    held = HeldRows(30 * ROW)
    first, second = RowReader(matrix(), held), RowReader(matrix(), held)
    passed(first, 2)
    passed(second)
    assert (first.held_bytes, second.held_bytes) == (30 * ROW, 0)
    passed(second)
    assert (first.held_bytes, second.held_bytes) == (0, 30 * ROW)


def test_two_matrices_in_turns_take_nothing_from_each_other() -> None:
    held = HeldRows(30 * ROW)
    first, second = RowReader(matrix(), held), RowReader(matrix(), held)
    for _ in range(3):
        passed(first)
        passed(second)
    assert (first.held_bytes, second.held_bytes) == (30 * ROW, 0)


def test_rows_give_way_to_what_is_needed_beside_them() -> None:
    reader = RowReader(matrix(), HeldRows(60 * ROW))
    passed(reader)
    reader.make_room(25 * ROW)
    assert reader.held_bytes == 30 * ROW
    passed(reader)
    assert reader.held_bytes == 30 * ROW and reader.reads == 1.5


def test_a_tall_matrix_is_multiplied_both_ways_in_one_read() -> None:
    reader = RowReader(matrix(), HeldRows(0))
    operator = RowChunked(reader, (60, 16), torch.float32, torch.device("cpu"), 7)
    generator = torch.Generator().manual_seed(1)
    update = LowRankUpdate(*(torch.randn(size, generator=generator) for size in ((60, 2), (2, 16))), 0.5)
    X = [torch.randn(16, 3, generator=generator), torch.randn(16, 2, generator=generator)]
    found = gram_together(operator, [None, update], X)
    assert reader.reads == 1
    for product, expected in zip(found, gram_together(Dense(W), [None, update], X), strict=True):
        torch.testing.assert_close(product, expected)


def test_a_budget_counts_the_process_and_all_matrices() -> None:
    memory = 2 << 30
    assert Budget(memory).fits((16384, 16384), torch.float32)
    assert not Budget(memory, 2).fits((16384, 16384), torch.float32)
    assert not Budget(memory).fits((53248, 16384), torch.float32)
    assert Budget().fits((53248, 16384), torch.float32)


def test_reads_are_counted_of_what_is_read_block_by_block_alone() -> None:
    budget = Budget(1)  # nothing fits
    operator = as_operator(matrix(), dtype=torch.float32, device="cpu", budget=budget)
    operator.rmatmat(torch.ones(60, 1))
    assert reads_of(operator) == 1
    assert reads_of(as_operator(matrix(), dtype=torch.float32, device="cpu")) is None
