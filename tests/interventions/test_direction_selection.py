"""Which directions are treated."""

import pytest

from spectra.errors import SpectrumError
from spectra.interventions import selected_directions
from spectra.records.verdicts import VectorVerdict


def verdicts(*intruders: bool, sigma: tuple[float, ...] = (4.0, 3.0, 2.0, 1.0)) -> tuple[VectorVerdict, ...]:
    return tuple(
        VectorVerdict(index, sigma[index], 0.1 if is_one else 0.9, is_one, 0.1, 0.9, "full factorisation")
        for index, is_one in enumerate(intruders)
    )


def test_the_top_is_the_highest_ranked_intruder_and_not_the_first_vector() -> None:
    assert selected_directions(verdicts(False, True, False, True), "top") == (1,)


def test_all_are_all_intruders() -> None:
    assert selected_directions(verdicts(True, False, True, True), "all") == (0, 2, 3)


@pytest.mark.parametrize(("share", "expected"), [(0.3, (0,)), (0.62, (0, 1)), (0.9, (0, 1, 2)), (1.0, (0, 1, 2, 3))])
def test_energy_takes_the_fewest_intruders_that_hold_the_share(share: float, expected: tuple[int, ...]) -> None:
    # Energies 16, 9, 4, 1 of 30: cumulated .533, .833, .967, 1.
    assert selected_directions(verdicts(True, True, True, True), "energy", share=share) == expected


@pytest.mark.parametrize("select", ["top", "all", "energy"])
def test_without_intruders_nothing_is_chosen(select: str) -> None:
    assert selected_directions(verdicts(False, False), select) == ()


def test_an_unknown_selection_or_share_is_refused() -> None:
    with pytest.raises(SpectrumError, match=r"The selection is 'some'. Choose one of top, all, energy"):
        selected_directions((), "some")
    with pytest.raises(SpectrumError, match=r"share is 1\.5, outside \(0, 1\]"):
        selected_directions((), "energy", share=1.5)
