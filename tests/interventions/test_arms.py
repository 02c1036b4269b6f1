"""Every control is matched to the intruder arm in what it claims: directions, norm, or both."""

from pathlib import Path

import numpy as np
import pytest

import spectra
from spectra.errors import SpectrumError
from spectra.interventions.arms import CONTROLS, Arm, arms_of
from spectra.interventions.deltas import Delta
from spectra.interventions.subject import Subject
from tests.interventions import planted
from tests.interventions.adapters import llama, save

LAMBDAS = (0.0, 0.3, 0.7, 1.0, 1.5, 2.0)


def opened(base: Path, checkpoint: Path, select: str = "top", **question: float) -> Subject:
    pair = spectra.open_pair(base, checkpoint)
    scan = spectra.intruders(checkpoint, base, **question)
    return Subject(pair, scan, select, 0.9, "cpu")


@pytest.fixture(scope="module", params=["adapter", "full"])
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "full":
        base = planted.save_base(folder)
        return opened(base, planted.save_tuned(base, folder / "tuned", "intruder"), k=4, epsilon=0.45)
    case = save(folder, llama, target_modules=["q_proj", "v_proj", "down_proj"])
    return opened(case.base, case.adapter, "all", k=6, epsilon=0.6)


def by_name(subject: Subject) -> dict[str, Arm]:
    arms, _ = arms_of(subject, CONTROLS, seed=0)
    return {arm.name: arm for arm in arms}


def dense(edits: dict[str, Delta]) -> dict[str, np.ndarray]:
    return {name: edit.dense().double().numpy() for name, edit in edits.items()}


def total(matrices: list[np.ndarray]) -> float:
    return float(np.sqrt(sum(np.sum(matrix**2) for matrix in matrices)))


@pytest.mark.parametrize("lam", LAMBDAS)
def test_norms_are_those_of_the_dense_matrices(subject: Subject, lam: float) -> None:
    deltas = {str(matrix.name): matrix.delta_W().double().numpy() for matrix in subject.pair.matrices}
    for arm in by_name(subject).values():
        edits = dense(dict(arm.edits(lam)))
        assert arm.edit_norm(lam) == pytest.approx(total(list(edits.values())), rel=1e-4, abs=1e-6), arm.name
        left = [delta + edits.get(name, 0) for name, delta in deltas.items()]
        assert arm.update_norm(lam) == pytest.approx(total(left), rel=1e-4, abs=1e-5), arm.name


@pytest.mark.parametrize("lam", LAMBDAS)
def test_the_shrink_leaves_every_treated_matrix_the_norm_that_the_intruder_arm_leaves_it(
    subject: Subject, lam: float
) -> None:
    arms = by_name(subject)
    mine, theirs = (dense(dict(arms[name].edits(lam))) for name in ("intruders", "shrink"))
    assert mine.keys() == theirs.keys() == subject.chosen.keys()
    for matrix in subject.pair.matrices:
        if (name := str(matrix.name)) in mine:
            delta = matrix.delta_W().double().numpy()
            wanted = np.linalg.norm(delta + mine[name])
            assert np.linalg.norm(delta + theirs[name]) == pytest.approx(wanted, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("lam", LAMBDAS)
def test_shrinking_everywhere_leaves_the_same_norm_in_all_by_one_factor(subject: Subject, lam: float) -> None:
    arms = by_name(subject)
    everywhere, treated = arms["shrink-all"], arms["intruders"]
    assert everywhere.update_norm(lam) == pytest.approx(treated.update_norm(lam), rel=1e-6)
    edits = dense(dict(everywhere.edits(lam)))
    ratios = {
        round(float(np.linalg.norm(edits[str(m.name)]) / np.linalg.norm(m.delta_W())), 4)
        for m in subject.pair.matrices
        if str(m.name) in edits
    }
    assert len(ratios) == 1


def test_every_direction_arm_scales_as_many_directions_of_each_matrix(subject: Subject) -> None:
    arms = by_name(subject)
    wanted = sorted(map(len, subject.chosen.values()))
    for name in ("random", "random-matched", "neighbour"):
        if name in arms:
            edits = arms[name].edits(0.0)
            assert {key: edit.rank for key, edit in edits.items()} == {
                key: len(positions) for key, positions in subject.chosen.items()
            }
    assert arms["random"].directions == subject.directions
    if "stand-in" in arms:
        edits = arms["stand-in"].edits(0.0)
        assert sorted(edit.rank for edit in edits.values()) == wanted
        assert not edits.keys() & subject.chosen.keys()
        assert all(subject.spectra[name].count == 0 for name in edits)


@pytest.mark.parametrize("lam", LAMBDAS)
def test_the_matched_random_edit_has_the_norm_of_the_treatment_in_each_matrix(subject: Subject, lam: float) -> None:
    arms = by_name(subject)
    mine, theirs = (dense(dict(arms[name].edits(lam))) for name in ("intruders", "random-matched"))
    for name, edit in mine.items():
        assert np.linalg.norm(theirs[name]) == pytest.approx(np.linalg.norm(edit), rel=1e-4, abs=1e-6)


def test_a_random_direction_keeps_lambda_times_what_the_matrix_holds_in_it(subject: Subject) -> None:
    """Unlike the matched one it never removes more than there is."""
    edits = by_name(subject)["random"].edits(0.25)
    for matrix in subject.pair.matrices:
        if (name := str(matrix.name)) in edits:
            W, edit = matrix.W_tuned().double().numpy(), edits[name]
            Q = np.linalg.qr(edit.B.double().numpy())[0]
            np.testing.assert_allclose(Q.T @ (W + edit.dense().double().numpy()), 0.25 * Q.T @ W, atol=1e-4)


def test_other_seeds_draw_other_directions(subject: Subject) -> None:
    one, other = (next(arm for arm in arms_of(subject, ["random"], seed=s)[0] if arm.name == "random") for s in (0, 1))
    name = next(iter(subject.chosen))
    assert not np.allclose(dense(dict(one.edits(0.0)))[name], dense(dict(other.edits(0.0)))[name])


def test_an_unknown_control_is_refused(subject: Subject) -> None:
    with pytest.raises(SpectrumError, match=r"There is no control shrimp\. Choose among shrink, shrink-all, random"):
        arms_of(subject, ["shrimp"], seed=0)


def test_a_control_that_cannot_be_matched_is_left_out_with_its_reason(tmp_path: Path) -> None:
    case = save(tmp_path, llama, target_modules=["q_proj"])
    crowded = opened(case.base, case.adapter, k=3, epsilon=1.0)
    arms, left_out = arms_of(crowded, CONTROLS, seed=0)
    assert {arm.name for arm in arms} == {"intruders", "shrink", "shrink-all", "random", "random-matched"}
    assert "as many pre-trained neighbours" in left_out["neighbour"]
    assert "as many without intruders" in left_out["stand-in"]


def test_removing_what_the_base_holds_in_an_intruder_raises_the_norm_and_the_control_grows(tmp_path: Path) -> None:
    case = save(tmp_path, llama, size=0.2, target_modules=["q_proj"])
    subject = opened(case.base, case.adapter, "all", k=6, epsilon=0.95)
    arms = by_name(subject)
    assert arms["intruders"].update_norm(0.0) > arms["intruders"].update_norm(1.0)
    assert arms["shrink"].update_norm(0.0) == pytest.approx(arms["intruders"].update_norm(0.0), rel=1e-6)
