import pytest
import torch

from spectra.linalg.definite import smallest_eigenvalue_exceeds
from spectra.linalg.operators import Dense
from tests.planted import orthonormal


def tall(smallest: float, dtype: torch.dtype, rows: int = 150) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    S = torch.linspace(10, 1, 60, dtype=torch.float64)
    S[-1] = smallest
    return ((orthonormal(rows, 60, generator) * S) @ orthonormal(60, 60, generator).mH).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_matrix_without_small_singular_values_is_proven(dtype: torch.dtype) -> None:
    assert smallest_eigenvalue_exceeds(Dense(tall(1.0, dtype)), 1e-3, 100.0)


@pytest.mark.parametrize("smallest", [0.0, 1e-3, 0.0315])
def test_a_smaller_singular_value_is_never_overlooked(smallest: float) -> None:
    assert not smallest_eigenvalue_exceeds(Dense(tall(smallest, torch.float32)), 1e-3, 100.0)


def test_the_proof_may_rest_on_a_part_of_the_rows() -> None:
    seen = []
    W = tall(1.0, torch.float64, rows=600)

    class Counting(Dense):
        def row_blocks(self):
            for rows in super().row_blocks():
                seen.append(rows.shape[0])
                yield rows

    assert smallest_eigenvalue_exceeds(Counting(W), 1e-6, 100.0)
    assert sum(seen) < W.shape[0]
