"""`spectra.scan` on checkpoints on disk, against independent computations on the merged weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import spectra
from spectra import Selection
from spectra.engine.cache import FactorCache
from spectra.engine.factors import BaseFactors
from spectra.engine.tuned import Tuned
from spectra.errors import SpectrumError
from spectra.linalg.operators import Dense, RowChunked
from spectra.linalg.svd import thin_svd
from spectra.metrics.windows import window_cosines
from spectra.records import METRICS, MatrixScan, Scan
from spectra.scanning.facts import BaseFacts, judged
from spectra.scanning.journal import Journal
from spectra.scanning.scan import PartialScan
from spectra.scanning.settings import ScanSettings
from spectra.scanning.window_bounds import window_bounds
from spectra.weights import open_pair
from tests import reference
from tests.planted import base_matrix, random_update
from tests.scanning.checkpoints import Checkpoints, save

K = 4
CHEAP = "intruders,update,alignment,base"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    return save(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module")
def scan(saved: Checkpoints) -> Scan:
    return spectra.scan(saved.adapters[1], k=K, side="both")


def dense(saved: Checkpoints, tuned: Path, matrix: MatrixScan) -> tuple[np.ndarray, np.ndarray]:
    """W0 and W_tuned of one matrix, as stored, in float64."""
    before, after = load_file(saved.base / "model.safetensors"), load_file(tuned / "model.safetensors")
    [name] = [name for name in before if name.endswith(f"{matrix.name}.weight")]
    return before[name].double().numpy(), after[name].double().numpy()


def test_every_measure_of_an_adapter_equals_its_definition_on_the_merged_checkpoint(
    saved: Checkpoints, scan: Scan
) -> None:
    assert len(scan.matrices) == 14
    for matrix in scan.matrices[:7]:
        W0, W = dense(saved, saved.merged[1], matrix)
        delta = W - W0
        S, S0, S_tuned = (np.linalg.svd(M, compute_uv=False) for M in (delta, W0, W))
        U0, U_delta = np.linalg.svd(W0, full_matrices=False)[0], np.linalg.svd(delta, full_matrices=False)[0]
        # Merging rounds every entry to float32; rank-3 ends are compared over the three values that are not rounding.
        expected = {
            "intruders.count": reference.count_intruders(W0, W, K, 0.5),
            "intruders.least_cosine": reference.largest_cosines(W0, W, K).min(),
            "update.frobenius": np.linalg.norm(delta),
            "update.spectral": S[0],
            "update.relative": np.linalg.norm(delta) / np.linalg.norm(W0),
            "update.relative_spectral": S[0] / S0[0],
            "update.effective_rank": reference.entropy_rank(S[:3]),
            "update.stable_rank": (S**2).sum() / S[0] ** 2,
            "update.rank_90": reference.share_rank(S, 0.90),
            "update.rank_99": reference.share_rank(S[:3], 0.99),
            "alignment.amplification": reference.amplification(W0, delta, 3),
            "alignment.phi": reference.overlap(U_delta, U0, 3, K),
            "alignment.rho": reference.energy_inside(U0, delta, K),
            "alignment.retention": np.mean(reference.retained(W0, W, K)),
            "alignment.drift": np.linalg.norm(S_tuned[:K] - S0[:K]) / np.linalg.norm(S0[:K]),
            "base.frobenius": np.linalg.norm(W0),
            "base.spectral": S0[0],
            "base.stable_rank": (S0**2).sum() / S0[0] ** 2,
            "base.effective_rank": reference.entropy_rank(S0),
            "base.numerical_rank": np.linalg.matrix_rank(W0),
        }
        for metric, value in expected.items():
            # 1e-3 relative: float32 factorisations and float32 merging.
            assert matrix.value(metric, "left") == pytest.approx(float(value), rel=1e-3, abs=1e-3), metric
        assert matrix.value("alignment.rho", "right") == pytest.approx(
            reference.energy_inside(np.linalg.svd(W0.T, full_matrices=False)[0], delta.T, K), rel=1e-3, abs=1e-3
        )


def test_the_verdicts_are_those_of_the_intruder_scan(saved: Checkpoints, scan: Scan) -> None:
    plain = spectra.intruders(saved.adapters[1], k=K, side="both")
    assert scan.total("intruders.count") == plain.count
    for mine, other in zip(scan.matrices, plain.matrices, strict=True):
        assert [v.verdict.is_intruder for v in mine.vectors] == [v.is_intruder for v in other.vectors]


def test_every_metric_has_an_entry_and_no_other_is_invented(scan: Scan) -> None:
    expected = {key for key in METRICS if METRICS[key].group in scan.groups}
    for matrix in scan.matrices:
        assert {measure.metric for measure in matrix.measures} == expected
        assert all(measure.note for measure in matrix.measures if measure.value is None)


def test_the_json_is_the_record_and_holds_no_nan(scan: Scan) -> None:
    text = json.dumps(scan.to_dict(), allow_nan=False)
    assert Scan.from_dict(json.loads(text)) == scan


def test_controls_match_the_norm_and_come_again_with_the_same_seed(saved: Checkpoints, scan: Scan) -> None:
    again = spectra.scan(saved.adapters[1], k=K, side="both")
    assert [m.measures for m in again.matrices] == [m.measures for m in scan.matrices]
    other = spectra.scan(saved.adapters[1], k=K, side="both", seed=1)
    assert [m.measures for m in other.matrices] != [m.measures for m in scan.matrices]
    for matrix in scan.matrices:
        measure = matrix.measure("update.frobenius")
        assert measure is not None
        lines = {line.null: line.mean for line in measure.nulls}
        assert lines["random low rank"] == pytest.approx(measure.value, rel=1e-5)
        # The norm of m independent entries scatters by 1 / sqrt(2 m), m at least 96 x 96.
        assert lines["dense gaussian"] == pytest.approx(measure.value, rel=0.05)
        assert lines["storage rounding"] < 1e-6 * (matrix.value("base.frobenius") or 0)


def test_a_random_update_is_what_its_control_says(saved: Checkpoints, scan: Scan) -> None:
    # The fixture's adapter is random: over 14 matrices its figures are those of the random low-rank control.
    for metric in ("intruders.count", "update.effective_rank", "update.stable_rank", "alignment.amplification"):
        assert scan.total(metric) == pytest.approx(scan.total(metric, "random low rank"), rel=0.25), metric


def test_more_draws_give_a_range(saved: Checkpoints) -> None:
    scan = spectra.scan(
        saved.adapters[1], k=K, metrics="ranks,nulls", draws=3, selection=Selection(layers="0", roles="q_proj")
    )
    measure = scan.matrices[0].measure("update.effective_rank")
    assert measure is not None
    for line in measure.nulls:
        assert line.draws == 3
        assert line.least < line.mean < line.most


def test_an_untuned_checkpoint_shows_nothing_and_has_no_controls(saved: Checkpoints) -> None:
    scan = spectra.scan(saved.base, base=saved.base, k=K)
    expected = {
        "intruders.count": 0, "update.frobenius": 0, "update.effective_rank": 0, "update.stable_rank": 0,
        "update.numerical_rank": 0, "update.rank_99": 0, "alignment.rho": 0, "alignment.drift": 0,
        "alignment.retention": 1, "alignment.least_principal_cosine": 1,
    }  # fmt: skip
    for metric, value in expected.items():
        assert scan.total(metric) == pytest.approx(value, abs=1e-5), metric
    assert not any(measure.nulls for matrix in scan.matrices for measure in matrix.measures)


def test_a_fully_tuned_checkpoint_has_its_ranks_from_the_difference(saved: Checkpoints) -> None:
    scan = spectra.scan(saved.full, base=saved.base, k=K, metrics=CHEAP)
    for matrix in scan.matrices[:4]:
        W0, W = dense(saved, saved.full, matrix)
        S = np.linalg.svd(W - W0, compute_uv=False)
        assert matrix.rank is None
        assert matrix.value("update.effective_rank") == pytest.approx(reference.entropy_rank(S), rel=1e-4)
        assert matrix.value("update.rank_90") == reference.share_rank(S, 0.9)
        assert matrix.value("alignment.rho") == pytest.approx(
            reference.energy_inside(np.linalg.svd(W0, full_matrices=False)[0], W - W0, K), rel=1e-3
        )


def test_only_the_groups_asked_for_are_measured(saved: Checkpoints) -> None:
    scan = spectra.scan(saved.adapters[1], k=K, metrics="ranks")
    assert {METRICS[m.metric].group for matrix in scan.matrices for m in matrix.measures} == {"update"}
    assert all(matrix.grids == () for matrix in scan.matrices)


@pytest.mark.parametrize(("metrics", "wording"), [
    ("intruders,curvature", "There is no group of metrics curvature. Choose from intruders, update"),
    ("nulls", "Controls alone were asked for"),
    ("", "No group of metrics was chosen"),
])  # fmt: skip
def test_a_choice_without_meaning_is_named(saved: Checkpoints, metrics: str, wording: str) -> None:
    with pytest.raises(SpectrumError, match=wording):
        spectra.scan(saved.adapters[1], metrics=metrics)


def test_large_matrices_are_estimated_with_an_error_and_exactly_when_asked(
    saved: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = spectra.scan(saved.adapters[1], k=K, metrics=CHEAP)
    monkeypatch.setattr("spectra.scanning.facts.EXACT_UP_TO", 16)
    estimated = spectra.scan(saved.adapters[1], k=K, metrics=CHEAP)
    forced = spectra.scan(saved.adapters[1], k=K, metrics=CHEAP, exact=True)
    for one, other, again in zip(exact.matrices, estimated.matrices, forced.matrices, strict=True):
        for metric in ("base.effective_rank", "base.edge"):
            truth, measure = one.value(metric), other.measure(metric)
            assert measure is not None
            assert measure.how == "estimate"
            assert measure.error is not None
            # Four standard errors, and 2 % for the quadrature.
            assert abs(measure.value - truth) <= 4 * measure.error + 0.02 * truth, metric
            assert again.value(metric) == pytest.approx(truth, rel=1e-4)
        assert other.value("update.effective_rank") == pytest.approx(one.value("update.effective_rank"))
        full_rank = other.measure("base.full_rank")
        assert full_rank is not None
        assert full_rank.value in (None, one.value("base.full_rank"))
    assert any("are estimates" in warning for warning in estimated.warnings)
    assert not any("are estimates" in warning for warning in forced.warnings)


@pytest.mark.parametrize("shape", [(150, 150), (220, 150), (150, 220)])
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_clustered_score_lies_within_its_bracket(shape: tuple[int, int], side: str) -> None:
    W, _ = base_matrix(*shape, "head and bulk", seed=0)
    settings = ScanSettings(k=K, method="certified", side=side)
    base = BaseFacts(BaseFactors(Dense(W)), settings)
    update = random_update(*shape, 3, 14.0, seed=1)
    [facts] = judged(base, [Tuned(update=update)], [None])
    lower, upper = window_bounds(facts, side)
    W0, tuned = thin_svd(W.double()), thin_svd((W + update.dense()).double())
    cosines = W0.U.mH @ tuned.U[:, :K] if side == "left" else W0.Vh @ tuned.Vh[:K].mH
    truth = window_cosines(cosines)
    assert bool((lower <= truth + 1e-4).all())
    assert bool((truth <= upper + 1e-4).all())


def test_simulations_are_kept_and_taken_up_again(saved: Checkpoints, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SPECTRA_CACHE", str(tmp_path))
    cache = FactorCache(tmp_path / "factors")
    first = spectra.scan(saved.adapters[1], k=K, cache=cache)
    assert list((tmp_path / "nulls").glob("*.json"))
    monkeypatch.setattr("spectra.scanning.nulls.nulls._simulated", lambda *_: pytest.fail("simulated again"))
    second = spectra.scan(saved.adapters[1], k=K, cache=cache)
    for one, other in zip(first.matrices, second.matrices, strict=True):
        for before, after in zip(one.measures, other.measures, strict=True):
            for line, again in zip(before.nulls, after.nulls, strict=True):
                # The update's norm, which scales the ranks known by shape, may round differently with loaded factors.
                assert again.mean == pytest.approx(line.mean, rel=1e-5)


def test_storage_rounding_moves_a_half_precision_base_by_half_a_unit(saved: Checkpoints, tmp_path: Path) -> None:
    for source, name in ((saved.base, "base"), (saved.full, "tuned")):
        tensors = {key: value.bfloat16() for key, value in load_file(source / "model.safetensors").items()}
        (tmp_path / name).mkdir()
        save_file(tensors, tmp_path / name / "model.safetensors", metadata={"format": "pt"})
        (tmp_path / name / "config.json").write_text((source / "config.json").read_text())
    scan = spectra.scan(
        tmp_path / "tuned", base=tmp_path / "base", k=K, metrics="update,nulls", selection=Selection(layers="0")
    )
    for matrix in scan.matrices:
        measure = matrix.measure("update.relative")
        assert measure is not None
        [moved] = [line.mean for line in measure.nulls if line.null == "storage rounding"]
        # Uniform within half a unit: eps / sqrt(12) of the power of two below, which is 1 to 1/2 of the entry.
        assert 2**-7 / 12**0.5 / 2 < moved < 2**-7 / 12**0.5


def test_a_streamed_base_has_every_measure_but_no_dense_controls(
    saved: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spectra.engine.storage.WORKSPACE_VECTORS", 1 << 20)  # nothing fits
    made = []
    monkeypatch.setattr("spectra.engine.storage.RowChunked", lambda *args: made.append(RowChunked(*args)) or made[-1])
    scan = spectra.scan(
        saved.adapters[0],
        k=K,
        memory_bytes=1 << 26,
        selection=Selection(layers="0", roles="q_proj"),
        method="certified",
    )
    assert made
    [matrix] = scan.matrices
    measure = matrix.measure("intruders.count")
    assert measure is not None
    assert {line.null for line in measure.nulls} == {"random low rank"}
    with pytest.raises(SpectrumError, match="does not fit the memory budget"):
        spectra.scan(
            saved.adapters[0],
            k=K,
            memory_bytes=1 << 26,
            selection=Selection(layers="0"),
            exact=True,
            method="certified",
        )


def test_an_interrupted_scan_keeps_what_it_has_and_goes_on_where_it_was(saved: Checkpoints, tmp_path: Path) -> None:
    pairs, settings = [open_pair(None, saved.adapters[1])], ScanSettings(k=K, groups=("intruders", "update", "nulls"))
    partial = PartialScan(pairs, settings, journal=Journal(pairs, settings, tmp_path))

    def stop(done: int, total: int, name: str) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        partial.run(stop)
    [cut] = partial.scans()
    assert len(cut.matrices) == 3
    assert "Interrupted: 3 of 14 matrices are scanned." in cut.warnings
    again = PartialScan(pairs, settings, journal=Journal(pairs, settings, tmp_path))
    seen: list[int] = []
    again.run(lambda done, total, name: seen.append(done))
    assert seen == [3, *range(4, 15)]
    assert again.scans()[0].matrices[:3] == cut.matrices  # controls, bounds and times included
    assert list(tmp_path.iterdir()) == []


def test_float64_arithmetic_gives_the_same_figures(saved: Checkpoints, scan: Scan) -> None:
    double = spectra.scan(saved.adapters[1], k=K, dtype="float64", metrics=CHEAP)
    for metric in ("intruders.count", "update.effective_rank", "alignment.amplification", "base.edge"):
        assert double.total(metric) == pytest.approx(scan.total(metric), rel=1e-3)


@pytest.mark.gpu
def test_a_gpu_gives_the_same_figures(saved: Checkpoints, scan: Scan) -> None:
    found = spectra.scan(saved.adapters[1], k=K, side="both", device="cuda")
    for metric in METRICS:
        if scan.total(metric) is not None:
            assert found.total(metric) == pytest.approx(scan.total(metric), rel=1e-2, abs=1e-2), metric
    assert torch.cuda.is_available()
