from collections.abc import Callable

import pytest
import torch

from spectra.linalg.basis import Diagonal
from spectra.linalg.operators import Adjoint, Dense, LinearOperator, LowRankUpdate, RowChunked, Updated

D_OUT, D_IN = 13, 7
W = torch.randn(D_OUT, D_IN, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
UPDATE = LowRankUpdate(W[:, :2].clone(), W[:2].clone(), 0.3)
CHUNKED = RowChunked(lambda start, stop: W[start:stop], (D_OUT, D_IN), torch.float64, torch.device("cpu"), 4)

OPERATORS: dict[str, tuple[Callable[[], LinearOperator], torch.Tensor]] = {
    "dense": (lambda: Dense(W), W),
    "row-chunked": (lambda: CHUNKED, W),
    "updated": (lambda: Updated(Dense(W), UPDATE), W + 0.3 * W[:, :2] @ W[:2]),
    "updated row-chunked": (lambda: Updated(CHUNKED, UPDATE), W + 0.3 * W[:, :2] @ W[:2]),
    "adjoint": (lambda: Adjoint(Dense(W)), W.mH),
    "adjoint row-chunked": (lambda: Adjoint(CHUNKED), W.mH),
    "diagonal": (
        lambda: Diagonal(torch.tensor([3.0, 2.0], dtype=torch.float64), (3, 2)),
        torch.tensor([[3.0, 0.0], [0.0, 2.0], [0.0, 0.0]], dtype=torch.float64),
    ),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_multiplies_like_the_matrix_it_stands_for(name: str) -> None:
    build, expected = OPERATORS[name]
    operator = build()
    X = torch.randn(expected.shape[1], 5, dtype=torch.float64)
    Y = torch.randn(expected.shape[0], 5, dtype=torch.float64)
    assert operator.shape == tuple(expected.shape)
    assert torch.allclose(operator.matmat(X), expected @ X)
    assert torch.allclose(operator.rmatmat(Y), expected.mH @ Y)
    assert torch.allclose(operator.dense(), expected)
    assert torch.allclose(torch.cat(list(operator.row_blocks())), expected)


def test_a_row_chunked_matrix_reads_no_more_rows_at_once_than_its_chunk() -> None:
    asked = []

    def read(start: int, stop: int) -> torch.Tensor:
        asked.append(stop - start)
        return W[start:stop].float()

    operator = RowChunked(read, (D_OUT, D_IN), torch.float64, torch.device("cpu"), 4)
    operator.rmatmat(torch.ones(D_OUT, 1, dtype=torch.float64))
    assert max(asked) == 4
    assert sum(asked) == D_OUT


@pytest.mark.parametrize("shape", [(64, 48), (67, 41), (5, 200), (200, 5)])
@pytest.mark.parametrize("transposed", [False, True])
def test_products_of_a_matrix_held_by_rows_or_by_columns(shape: tuple[int, int], transposed: bool) -> None:
    matrix = torch.randn(*shape, dtype=torch.float64)
    matrix = matrix.mH if transposed else matrix
    for width in (1, 9):
        X = torch.randn(matrix.shape[1], width, dtype=torch.float64)
        Y = torch.randn(matrix.shape[0], width, dtype=torch.float64)
        assert torch.allclose(Dense(matrix).matmat(X), torch.einsum("ij,jk->ik", matrix, X))
        assert torch.allclose(Dense(matrix).rmatmat(Y), torch.einsum("ij,ik->jk", matrix, Y))


@pytest.mark.parametrize("columns", [3, 30])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_gram_product_of_a_tall_matrix_is_that_of_both_products(columns: int, threads: int) -> None:
    generator = torch.Generator().manual_seed(0)
    tall = torch.randn(
        2111, 1009, generator=generator
    )  # large enough to be split, into parts that do not come out even
    X = torch.randn(1009, columns, generator=generator)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = Dense(tall).gram(X)
        turned = Dense(tall.mH.contiguous().mH).gram(X)
    finally:
        torch.set_num_threads(before)
    expected = (tall.double().mH @ (tall.double() @ X.double())).float()
    for each in (found, turned):
        assert torch.allclose(each, expected, atol=2e-6 * float(expected.abs().max()))
