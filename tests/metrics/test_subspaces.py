import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st

from spectra.metrics.subspaces import phi, phi_grid, principal_cosines, similarity_map
from tests import reference
from tests.planted import orthonormal


def two_bases(seed: int, d: int = 20, n: int = 5, k: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return orthonormal(d, n, generator), orthonormal(d, k, generator)


def test_a_plane_that_shares_one_axis_overlaps_by_half() -> None:
    I = torch.eye(4, dtype=torch.float64)  # noqa: E741
    assert phi(I[:, [0, 1]], I[:, [1, 2]]) == pytest.approx(0.5)
    assert phi_grid(I[:, [0, 1]], I[:, [1, 2]]).tolist() == [[0.0, 0.0], [1.0, 0.5]]


@given(seed=st.integers(0, 50))
def test_every_grid_entry_agrees_with_the_definition(seed: int) -> None:
    U1, U2 = two_bases(seed)
    grid = phi_grid(U1, U2)
    for i in range(1, 6):
        for j in range(1, 4):
            assert float(grid[i - 1, j - 1]) == pytest.approx(reference.overlap(U1.numpy(), U2.numpy(), i, j))
    assert phi(U1, U2) == pytest.approx(float(grid[-1, -1]))


@given(seed=st.integers(0, 50))
def test_principal_cosines_agree_with_scipy(seed: int) -> None:
    U1, U2 = two_bases(seed)
    angles = np.sort(scipy.linalg.subspace_angles(U1.numpy(), U2.numpy()))
    assert principal_cosines(U1, U2).tolist() == pytest.approx(np.cos(angles).tolist(), abs=1e-12)


@given(seed=st.integers(0, 50))
def test_subspaces_do_not_depend_on_signs_bases_or_a_common_rotation(seed: int) -> None:
    U1, U2 = two_bases(seed)
    generator = torch.Generator().manual_seed(seed + 1)
    R, inside = orthonormal(20, 20, generator), orthonormal(5, 5, generator)
    assert phi(R @ U1 @ inside, R @ -U2) == pytest.approx(phi(U1, U2))
    assert torch.allclose(principal_cosines(R @ U1 @ inside, R @ U2), principal_cosines(U1, U2))
    assert torch.allclose(similarity_map(R @ -U1, R @ U2), similarity_map(U1, U2))


@given(seed=st.integers(0, 50))
def test_overlap_is_the_mean_square_of_the_principal_cosines(seed: int) -> None:
    U1, U2 = two_bases(seed)
    assert phi(U1, U2) == pytest.approx(float((principal_cosines(U1, U2) ** 2).mean()))
    assert phi(U1, U2) == pytest.approx(phi(U2, U1))


def test_random_subspaces_overlap_by_the_larger_dimension_over_the_space() -> None:
    drawn = [phi(*two_bases(seed, d=100, n=10, k=4)) for seed in range(50)]
    # 0.1 expected; 50 draws of about 0.02 spread leave 0.003.
    assert sum(drawn) / 50 == pytest.approx(0.1, abs=0.01)


def test_a_subspace_against_itself_is_one_everywhere_on_the_diagonal() -> None:
    U, _ = two_bases(3)
    assert torch.allclose(phi_grid(U, U), torch.ones(5, 5, dtype=torch.float64))
    assert torch.allclose(similarity_map(U, U), torch.eye(5, dtype=torch.float64), atol=1e-12)


def test_no_directions_overlap_by_nothing() -> None:
    assert phi(torch.zeros(4, 0), torch.eye(4)) == 0.0
    assert principal_cosines(torch.eye(3)[:, :1], torch.ones(3, 1) / math.sqrt(3)).tolist() == pytest.approx(
        [1 / math.sqrt(3)]
    )
