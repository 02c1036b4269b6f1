"""Ranks by number, energy, error and budget."""

import pytest

from spectra.errors import SpectrumError
from spectra.surgery.rank_choice import RankChoice


@pytest.mark.parametrize("given", [{}, {"rank": 4, "energy": 0.5}])
def test_exactly_one_way_is_asked_for(given: dict[str, float]) -> None:
    with pytest.raises(SpectrumError, match="Give one of rank, energy, error and parameters"):
        RankChoice(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [{"rank": 0}, {"energy": 0.0}, {"energy": 1.5}, {"error": 1.0}, {"parameters": 0}])
def test_values_without_meaning_are_refused(given: dict[str, float]) -> None:
    with pytest.raises(SpectrumError, match="Use for instance"):
        RankChoice(**given)  # type: ignore[arg-type]


def test_a_rank_above_the_dimension_names_the_matrix() -> None:
    with pytest.raises(SpectrumError, match="Rank 5 exceeds the smaller dimension of 'q', which is 4 x 9"):
        RankChoice(rank=5).require_within([("q", (4, 9))])
