from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from spectra.engine import certified
from spectra.engine.cache import FORMAT, CacheEntry, FactorCache
from spectra.engine.factors import BaseFactors, LeadingFactors
from spectra.engine.methods import METHODS
from spectra.engine.tuned import Tuned
from spectra.linalg.operators import Dense
from spectra.linalg.svd import SVD, thin_svd
from tests.planted import base_matrix, random_update

EPSILON = torch.tensor([0.5], dtype=torch.float64)
W0 = base_matrix(150, 220, "head and bulk", 0)[0]
OTHER = base_matrix(150, 220, "head and bulk", 1)[0]


def filled(folder: Path, key: str = "a") -> FactorCache:
    cache = FactorCache(folder)
    cache.entry(key, Dense(W0)).save_full(thin_svd(W0))
    base = BaseFactors(Dense(W0), cache.entry(key, Dense(W0)))
    METHODS["certified"](base, [Tuned(update=random_update(150, 220, 4, 20.0, 1))], 6, EPSILON)
    return cache


def test_factors_come_back_as_they_were_saved(tmp_path: Path) -> None:
    entry = filled(tmp_path).entry("a", Dense(W0))
    full, leading = entry.load_full(), entry.load_leading()
    assert full is not None
    assert torch.allclose(full.to_dense(), W0, atol=1e-4)
    assert leading is not None
    # Squared singular values of a float32 Gram operator, relative to the largest.
    assert torch.allclose(leading.values.sqrt(), full.S[: leading.values.shape[0]].double(), atol=1e-3)


def test_an_entry_of_another_matrix_is_never_trusted(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    entry = cache.entry("a", Dense(OTHER))
    assert entry.load_full() is None
    assert entry.load_leading() is None


@pytest.mark.parametrize("damage", ["truncated", "empty", "garbage", "foreign format", "missing tensor", "wrong shape"])
def test_a_damaged_entry_is_recomputed(tmp_path: Path, damage: str) -> None:
    cache = filled(tmp_path)
    for path in tmp_path.glob("*.safetensors"):
        whole = path.read_bytes()
        if damage == "truncated":
            path.write_bytes(whole[: len(whole) // 2])
        elif damage == "empty":
            path.write_bytes(b"")
        elif damage == "garbage":
            path.write_bytes(b"\xff" * 100)
        elif damage == "foreign format":
            save_file({"U": torch.zeros(2, 2)}, path, metadata={"format": "something else"})
        elif damage == "missing tensor":
            save_file({"U": torch.zeros(150, 150)}, path, metadata={"format": FORMAT})
        else:
            wrong = {"U": torch.zeros(3, 2), "S": torch.zeros(2), "Vh": torch.zeros(2, 4)}
            save_file(wrong, path, metadata={"format": FORMAT})
    entry = cache.entry("a", Dense(W0))
    assert entry.load_full() is None
    assert entry.load_leading() is None
    assert torch.allclose(BaseFactors(Dense(W0), entry).full().to_dense(), W0, atol=1e-4)


def test_factors_with_one_number_changed_are_not_sound(tmp_path: Path) -> None:
    cache = FactorCache(tmp_path)
    svd = thin_svd(W0)
    S = svd.S.clone()
    S[0] *= 1.5
    cache.entry("a", Dense(W0)).save_full(SVD(svd.U, S, svd.Vh))
    assert cache.entry("a", Dense(W0)).load_full() is None


def test_the_entry_used_longest_ago_is_dropped_when_the_limit_is_reached(tmp_path: Path) -> None:
    svd = thin_svd(W0)
    size = svd.U.nbytes + svd.S.nbytes + svd.Vh.nbytes
    cache = FactorCache(tmp_path, limit_bytes=int(2.5 * size))
    for key in ("a", "b"):
        cache.entry(key, Dense(W0)).save_full(svd)
    assert cache.entry("a", Dense(W0)).load_full() is not None  # now b is the older one
    cache.entry("c", Dense(W0)).save_full(svd)
    assert cache.entry("a", Dense(W0)).has_full()
    assert not cache.entry("b", Dense(W0)).has_full()
    assert cache.entry("c", Dense(W0)).has_full()


def test_an_entry_larger_than_the_whole_cache_is_not_written(tmp_path: Path) -> None:
    cache = FactorCache(tmp_path, limit_bytes=1000)
    cache.entry("a", Dense(W0)).save_full(thin_svd(W0))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_costs_no_result(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("not a folder")
    cache = FactorCache(tmp_path / "file" / "factors")
    cache.write("entry", {"S": torch.ones(3)})
    assert cache.read("entry") is None
    assert "Nothing is kept in" in caplog.text


def test_a_second_scan_starts_from_the_cached_leading_factors(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    base = BaseFactors(Dense(W0), cache.entry("a", Dense(W0)))
    assert base.leading is not None
    second = Tuned(update=random_update(150, 220, 4, 15.0, 7))
    [found] = METHODS["certified"](base, [second], 6, EPSILON)
    [expected] = METHODS["exact"](BaseFactors(Dense(W0)), [second], 6, EPSILON)
    assert ((found.upper < 0.5) == (expected.upper < 0.5)).all()


def test_leading_factors_of_a_tall_base_are_written_once_with_their_floor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[LeadingFactors] = []
    proofs: list[float] = []
    original, prove = CacheEntry.save_leading, certified.smallest_eigenvalue_exceeds
    monkeypatch.setattr(
        CacheEntry, "save_leading", lambda entry, factors: saved.append(factors) or original(entry, factors)
    )
    monkeypatch.setattr(
        certified, "smallest_eigenvalue_exceeds", lambda W, floor, top: proofs.append(floor) or prove(W, floor, top)
    )
    tall = base_matrix(400, 200, "head and bulk", 2)[0]
    cache = FactorCache(tmp_path)
    for seed, size in ((1, 60.0), (2, 60.0)):
        base = BaseFactors(Dense(tall), cache.entry("tall", Dense(tall)))
        tuned = Tuned(update=random_update(400, 200, 4, size, seed))
        [found] = certified.certified(base, [tuned], 3, EPSILON, largest_spectrum=0)
        assert set(found.decided) == {"certificate"}
    assert len(saved) >= 1
    assert len(proofs) == 1  # the second scan rests on the floor that the first one proved
    assert saved[-1].floor == proofs[0]
    assert len(saved) <= 2  # the vectors, and then the floor
