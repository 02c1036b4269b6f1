"""`spectra.intruders` on checkpoints on disk, against the definition applied to the merged weights."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

import spectra
from spectra.engine.cache import FactorCache
from spectra.errors import CheckpointError, SpectrumError
from spectra.linalg.operators import RowChunked
from spectra.scanning.journal import Journal
from spectra.scanning.scan import PartialScan, scan_pairs
from spectra.scanning.settings import EVERY_MATRIX, ScanSettings
from spectra.weights import open_pair
from tests import reference
from tests.scanning.checkpoints import Checkpoints, save

K = 4
EPSILONS = tuple(i / 10 for i in range(1, 10))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    return save(tmp_path_factory.mktemp("checkpoints"))


def expected_counts(base: Path, tuned: Path, epsilon: float = 0.5) -> dict[str, int]:
    """The definition on every two-dimensional weight of the blocks."""
    before, after = load_file(base / "model.safetensors"), load_file(tuned / "model.safetensors")
    return {
        name: reference.count_intruders(before[name].numpy(), after[name].numpy(), K, epsilon)
        for name in before
        if ".layers." in name and before[name].ndim == 2
    }


@pytest.mark.parametrize("method", ["auto", "exact", "certified", "cached-basis"])
def test_counts_of_an_adapter_equal_the_definition_on_the_merged_checkpoint(saved: Checkpoints, method: str) -> None:
    for adapter, merged in zip(saved.adapters, saved.merged, strict=True):
        scan = spectra.intruders(adapter, k=K, method=method)
        expected = expected_counts(saved.base, merged)
        assert len(scan.matrices) == len(expected) == 14
        for matrix in scan.matrices:
            [truth] = [count for name, count in expected.items() if name.endswith(f"{matrix.name}.weight")]
            assert matrix.count == truth
        assert scan.count == sum(expected.values())


def test_a_large_update_has_intruders_and_a_small_one_has_none(saved: Checkpoints) -> None:
    assert spectra.intruders(saved.adapters[0], k=K).count == 0
    assert spectra.intruders(saved.adapters[1], k=K).count > 14


def test_a_fully_tuned_checkpoint_is_compared_with_its_base(saved: Checkpoints) -> None:
    scan = spectra.intruders(saved.full, base=saved.base, k=K, epsilons=EPSILONS)
    for row in scan.to_dict()["counts_by_epsilon"]:
        assert row["count"] == sum(expected_counts(saved.base, saved.full, row["epsilon"]).values())


def test_a_checkpoint_against_itself_has_no_intruders(saved: Checkpoints) -> None:
    assert spectra.intruders(saved.base, base=saved.base, k=K, epsilon=0.99).count == 0


def test_several_checkpoints_of_one_base_get_the_counts_of_separate_scans(saved: Checkpoints) -> None:
    settings = ScanSettings(k=K, epsilons=EPSILONS)
    paths = [*saved.adapters, saved.full]
    pairs = [open_pair(saved.base, path) for path in paths]
    together = scan_pairs(pairs, settings)
    for pair, scan in zip(pairs, together, strict=True):
        [alone] = scan_pairs([pair], settings)
        assert [m.count for m in scan.matrices] == [m.count for m in alone.matrices]
        assert scan.checkpoint == pair.checkpoint


def test_both_sides_are_scanned_when_asked_for(saved: Checkpoints) -> None:
    both = spectra.intruders(saved.adapters[1], k=K, side="both")
    right = spectra.intruders(saved.adapters[1], k=K, side="right")
    for matrix, alone in zip(both.matrices, right.matrices, strict=True):
        assert [v.is_intruder for v in matrix.side_vectors("right")] == [v.is_intruder for v in alone.vectors]
        assert matrix.primary_side == "left"
        assert len(matrix.vectors) == 2 * K


def test_norms_of_the_update_are_those_of_the_merged_difference(saved: Checkpoints) -> None:
    scan = spectra.intruders(saved.adapters[1], k=K)
    before, after = (load_file(p / "model.safetensors") for p in (saved.base, saved.merged[1]))
    for matrix in scan.matrices:
        [name] = [name for name in before if name.endswith(f"{matrix.name}.weight")]
        delta = (after[name] - before[name]).double()
        assert matrix.update is not None
        # Merging in float32 rounds every entry of the sum.
        assert matrix.update.frobenius == pytest.approx(float(delta.norm()), rel=1e-4)
        assert matrix.update.relative == pytest.approx(float(delta.norm() / before[name].double().norm()), rel=1e-4)
        assert 1 <= matrix.update.effective_rank <= 3.01


def test_norms_of_a_dense_update_are_computed_on_request(saved: Checkpoints) -> None:
    plain = spectra.intruders(saved.full, base=saved.base, k=K)
    asked = spectra.intruders(saved.full, base=saved.base, k=K, dense_norms=True)
    assert all(matrix.update is None for matrix in plain.matrices)
    assert all(matrix.update is not None and matrix.update.effective_rank > 60 for matrix in asked.matrices)


def test_a_matrix_beyond_the_memory_budget_is_streamed_with_the_same_verdicts(
    saved: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = spectra.intruders(saved.adapters[1], k=K, method="certified")
    monkeypatch.setattr("spectra.engine.storage.WORKSPACE_VECTORS", 1 << 20)  # nothing fits
    monkeypatch.setattr("spectra.engine.storage.SMALLEST_CHUNK_BYTES", 20_000)
    made = []
    monkeypatch.setattr("spectra.engine.storage.RowChunked", lambda *args: made.append(RowChunked(*args)) or made[-1])
    streamed = spectra.intruders(saved.adapters[1], k=K, method="certified", memory_bytes=1 << 26)
    assert made
    assert all(operator.chunk_rows < operator.shape[0] for operator in made)
    assert [m.count for m in streamed.matrices] == [m.count for m in plain.matrices]
    assert all(m.reads is not None and m.reads["W0"] >= 1 for m in streamed.matrices)
    assert all(m.reads is None for m in plain.matrices)


def test_an_interrupted_scan_keeps_what_it_has_and_a_rerun_continues(saved: Checkpoints, tmp_path: Path) -> None:
    pairs, settings = [open_pair(None, saved.adapters[1])], ScanSettings(k=K)
    partial = PartialScan(pairs, settings, journal=Journal(pairs, settings, tmp_path))

    def stop(done: int, total: int, name: str) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        partial.run(stop)
    [scan] = partial.scans()
    assert len(scan.matrices) == 5
    assert "Interrupted: 5 of 14 matrices are scanned." in scan.warnings

    journal = Journal(pairs, settings, tmp_path)
    journal.path.write_text(journal.path.read_text() + '{"places": [[0, 9]], "matr')  # a kill in the middle of a write
    again = PartialScan(pairs, settings, journal=Journal(pairs, settings, tmp_path))
    seen = []
    again.run(lambda done, total, name: seen.append(done))
    assert seen[0] == 5  # the first five came from the journal
    assert [m.count for m in again.scans()[0].matrices] == [
        m.count for m in spectra.intruders(saved.adapters[1], k=K).matrices
    ]
    assert list(tmp_path.iterdir()) == []  # a complete scan leaves no journal


def test_a_journal_of_another_question_is_not_taken_up(saved: Checkpoints, tmp_path: Path) -> None:
    pairs = [open_pair(None, saved.adapters[1])]
    paths = {Journal(pairs, ScanSettings(k=k, epsilon=e), tmp_path).path for k in (3, 4) for e in (0.4, 0.5)}
    assert len(paths) == 4


def test_the_cache_changes_no_verdict_and_is_found_again(saved: Checkpoints, tmp_path: Path) -> None:
    plain = spectra.intruders(saved.adapters[1], k=K, method="certified")
    for _ in range(2):
        cached = spectra.intruders(saved.adapters[1], k=K, method="certified", cache=FactorCache(tmp_path))
        assert [m.count for m in cached.matrices] == [m.count for m in plain.matrices]
    assert len(list(tmp_path.glob("*.safetensors"))) > 0


def test_the_json_has_the_promised_keys(saved: Checkpoints) -> None:
    scan = spectra.intruders(saved.adapters[0], k=K).to_dict()
    assert {"checkpoint", "base", "k", "epsilon", "side", "method", "count", "matrices", "skipped", "versions"} <= set(
        scan
    )
    assert {"name", "shape", "count", "vectors"} <= set(scan["matrices"][0])
    assert {"index", "singular_value", "max_cosine", "is_intruder"} <= set(scan["matrices"][0]["vectors"][0])
    assert set(scan["skipped"][0]) == {"name", "reason"}


def test_the_tables_have_one_row_per_matrix_and_per_vector(saved: Checkpoints) -> None:
    scan = spectra.intruders(saved.adapters[1], k=K)
    assert len(scan.to_dataframe()) == 14
    assert int(scan.to_dataframe()["count"].sum()) == scan.count
    vectors = scan.to_dataframe("vectors")
    assert len(vectors) == 14 * K
    assert int(vectors["is_intruder"].sum()) == scan.count


def test_the_similarity_map_of_an_untuned_matrix_is_the_identity(saved: Checkpoints) -> None:
    [scan] = scan_pairs([open_pair(saved.base, saved.base)], ScanSettings(pictured=(EVERY_MATRIX,), map_size=5))
    for matrix in scan.matrices:
        [grid] = matrix.grids
        assert np.array(grid.values) == pytest.approx(np.eye(5), abs=1e-5)


@pytest.mark.parametrize(("which", "side"), [("adapter", "left"), ("full", "both"), ("adapter", "right")])
def test_pictures_hold_the_leading_cosines_and_spectra_of_the_matrices_asked_for(
    saved: Checkpoints, which: str, side: str
) -> None:
    checkpoint, merged = (saved.adapters[1], saved.merged[1]) if which == "adapter" else (saved.full, saved.full)
    pair = open_pair(saved.base, checkpoint)
    names = tuple(str(matrix.name) for matrix in pair.matrices[:2])
    [scan] = scan_pairs([pair], ScanSettings(pictured=names, side=side))
    assert [matrix.name for matrix in scan.matrices if matrix.grids] == list(names)
    before, after = (load_file(folder / "model.safetensors") for folder in (saved.base, merged))
    for matrix in scan.matrices[:2]:
        [name] = [name for name in before if name.endswith(f"{matrix.name}.weight")]
        W0, W = before[name].double().numpy(), after[name].double().numpy()
        (U0, S0, _), (U, S, _) = (np.linalg.svd(M.T if side == "right" else M) for M in (W0, W))
        [grid] = matrix.grids
        assert grid.name == "similarity" and grid.side == ("right" if side == "right" else "left")
        # Single vectors of neighbouring singular values are known to about float32 rounding over their gap.
        assert np.array(grid.values) == pytest.approx(np.abs(U0[:, :16].T @ U[:, :16]), abs=2e-2)
        assert matrix.base_values == pytest.approx(S0[:64], rel=1e-4)
        assert matrix.tuned_values == pytest.approx(S[:64], rel=1e-3)
        assert len(matrix.update_values) == (3 if which == "adapter" else 64)


def test_a_selection_that_leaves_nothing_is_an_error(saved: Checkpoints) -> None:
    for face in (spectra.intruders, spectra.scan):
        with pytest.raises(CheckpointError, match=r"No matrix of '.*' is left to compare .*Widen the selection"):
            face(saved.adapters[0], selection=spectra.Selection(include="nothing-has-this-name"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 0}, "k is 0"),
        ({"epsilon": 1.2}, "epsilon is 1.2"),
        ({"epsilons": (0.0,)}, "epsilon is 0.0"),
        ({"method": "guess"}, "method is 'guess'"),
        ({"dtype": "int8"}, "dtype is 'int8'"),
        ({"memory_bytes": 10}, "below 64 MiB"),
    ],
)
def test_a_meaningless_setting_is_refused_with_its_value(settings: dict, message: str) -> None:
    with pytest.raises(SpectrumError, match=message.replace(".", r"\.")):
        ScanSettings(**settings)


def test_an_unknown_side_is_refused_with_the_choices(saved: Checkpoints) -> None:
    with pytest.raises(SpectrumError, match=r"side is 'top'\. Choose one of left, right, both\."):
        ScanSettings(side="top")


def test_a_full_checkpoint_without_a_base_asks_for_one(saved: Checkpoints) -> None:
    with pytest.raises(CheckpointError, match="base"):
        spectra.intruders(saved.full)


@pytest.mark.gpu
def test_a_scan_on_the_gpu_gives_the_verdicts_of_the_cpu(saved: Checkpoints) -> None:
    for method in ("exact", "certified", "cached-basis"):
        cpu = spectra.intruders(saved.adapters[1], k=K, method=method)
        gpu = spectra.intruders(saved.adapters[1], k=K, method=method, device="cuda")
        assert [m.count for m in gpu.matrices] == [m.count for m in cpu.matrices]


def test_a_full_factorisation_beyond_the_budget_is_refused_with_the_way_out(
    saved: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spectra.engine.storage.WORKSPACE_VECTORS", 1 << 20)  # nothing fits
    with pytest.raises(SpectrumError, match=r"96 x 160 matrix needs a full factorisation.*Raise --memory"):
        spectra.intruders(saved.adapters[1], k=K, method="exact", memory_bytes=1 << 26)


def test_a_large_fully_tuned_matrix_is_streamed(saved: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = spectra.intruders(saved.full, base=saved.base, k=K, method="certified", epsilon=0.95)
    monkeypatch.setattr("spectra.scanning.facts.TUNED_BYTES", 1)
    monkeypatch.setattr("spectra.engine.storage.SMALLEST_CHUNK_BYTES", 20_000)
    made = []
    monkeypatch.setattr("spectra.engine.storage.RowChunked", lambda *args: made.append(RowChunked(*args)) or made[-1])
    streamed = spectra.intruders(saved.full, base=saved.base, k=K, method="certified", epsilon=0.95)
    assert len(made) == len(plain.matrices)  # the base is held whole
    assert all(operator.chunk_rows < operator.shape[0] for operator in made)
    assert [m.count for m in streamed.matrices] == [m.count for m in plain.matrices]


def test_a_scan_imports_neither_plotting_nor_training_code() -> None:
    code = (
        "import sys, spectra.scanning.scan, spectra.scanning.compare;"
        "heavy = {'transformers', 'peft', 'accelerate', 'datasets', 'matplotlib', 'altair', 'jinja2', 'click', 'rich'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed == "[]\n"
