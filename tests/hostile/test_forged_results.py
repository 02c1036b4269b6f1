"""Results that somebody else put into the cache: what is kept is believed only as this user wrote it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from spectra import Selection
from spectra.engine.cache import FactorCache, _parts
from spectra.engine.factors import BaseFactors
from spectra.engine.methods import METHODS
from spectra.engine.tuned import Tuned
from spectra.linalg.operators import Dense
from spectra.linalg.svd import thin_svd
from spectra.scanning.journal import Journal
from spectra.scanning.scan import PartialScan
from spectra.scanning.settings import ScanSettings
from spectra.storage.private import seal
from spectra.weights import open_pair
from tests.planted import base_matrix, random_update
from tests.scanning.checkpoints import Checkpoints, save

SETTINGS = ScanSettings(k=4)
W0 = base_matrix(150, 220, "head and bulk", 0)[0]
NEARLY_W0 = W0 * (1 + 1e-5)  # passes every probe of a file of W0


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    return save(tmp_path_factory.mktemp("checkpoints"))


def scanned(saved: Checkpoints, folder: Path, roles: str = "q_proj") -> PartialScan:
    pairs = [open_pair(None, saved.adapters[1], Selection(roles=roles))]
    return PartialScan(
        pairs, SETTINGS, journal=Journal(pairs, SETTINGS, folder), look=lambda places, facts: [{"place": places[0][1]}]
    )


def interrupted(scan: PartialScan) -> Path:
    """The journal of a scan that was stopped after one matrix."""

    def stop(done: int, total: int, name: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan.run(stop)
    assert scan.journal is not None
    return scan.journal.path


def stranger(monkeypatch: pytest.MonkeyPatch, folder: Path, *parts: bytes | memoryview) -> str:
    """The seal that somebody with another key puts under these parts."""
    with monkeypatch.context() as other:
        other.setenv("SPECTRA_CONFIG", str(folder / "stranger"))
        return seal(*parts)


@pytest.mark.parametrize("forgery", ["numbers", "author", "no seal", "another scan", "cut off", "this user"])
def test_a_forged_line_of_a_journal_is_scanned_anew(
    saved: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgery: str
) -> None:
    folder = tmp_path / "scans"
    path = interrupted(scanned(saved, folder))
    found, _, text = path.read_bytes().rstrip(b"\n").partition(b" ")
    entry = json.loads(text)
    entry["matrices"][0]["method"] = "forged"
    changed = json.dumps(entry).encode()
    if forgery == "another scan":  # a line with a good seal, of other matrices with the same places
        line = interrupted(scanned(saved, folder, "v_proj")).read_bytes()
    else:
        line = {
            "numbers": found + b" " + changed,
            "author": stranger(monkeypatch, tmp_path, path.stem.encode(), changed).encode() + b" " + changed,
            "no seal": changed,
            "cut off": (found + b" " + text)[:-9],
            # Believed: this is what makes the others forgeries.
            "this user": seal(path.stem.encode(), changed).encode() + b" " + changed,
        }[forgery]
    path.write_bytes(line.rstrip(b"\n") + b"\n")
    again = scanned(saved, folder)
    again.run()
    [scan] = again.scans()
    assert [str(matrix.name) for matrix in scan.matrices] == [str(matrix.name) for matrix in again.pairs[0].matrices]
    assert ("forged" in json.dumps(scan.to_dict())) == (forgery == "this user")


def test_a_line_that_stands_twice_in_a_journal_counts_once(saved: Checkpoints, tmp_path: Path) -> None:
    path = interrupted(scanned(saved, tmp_path))
    path.write_bytes(path.read_bytes() * 2)
    again = scanned(saved, tmp_path)
    again.run()
    assert again.beside == [{"place": 0}, {"place": 1}]


def filled(folder: Path, key: str, matrix: Tensor) -> FactorCache:
    cache = FactorCache(folder)
    cache.entry(key, Dense(matrix)).save_full(thin_svd(matrix))
    base = BaseFactors(Dense(matrix), cache.entry(key, Dense(matrix)))
    METHODS["certified"](base, [Tuned(update=random_update(150, 220, 4, 20.0, 1))], 6, torch.tensor([0.5]).double())
    return cache


def rewrite(path: Path, change: Callable[[dict[str, Tensor], dict[str, str]], None]) -> None:
    with safe_open(path, framework="pt") as file:
        told = dict(file.metadata())
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (no mapping)
    change(tensors, told)
    save_file(tensors, path, metadata=told)


@pytest.mark.parametrize("forgery", ["numbers", "author", "no seal", "another matrix", "an older format"])
def test_a_forged_entry_of_factors_is_computed_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgery: str
) -> None:
    cache = filled(tmp_path / "factors", "a", W0)
    entry = cache.entry("a", Dense(W0))
    assert entry.load_full() is not None and entry.load_leading() is not None
    if forgery == "another matrix":
        filled(cache.folder, "b", NEARLY_W0)
    for path in cache.folder.glob("a-*.safetensors"):

        def change(tensors: dict[str, Tensor], told: dict[str, str], name: str = path.stem) -> None:
            # Small enough, or in numbers that no product with W0 tests, for every probe to pass.
            for altered in ("S", "floor"):
                if altered in tensors:
                    tensors[altered] = tensors[altered] * (1 + 1e-5)
            if forgery == "author":
                told["seal"] = stranger(monkeypatch, tmp_path, name.encode(), *_parts(tensors))
            elif forgery == "no seal":
                del told["seal"]
            elif forgery == "an older format":
                told["format"] = "spectra-factors-1"

        if forgery == "another matrix":
            path.write_bytes((cache.folder / path.name.replace("a-", "b-", 1)).read_bytes())
        else:
            rewrite(path, change)
    assert entry.load_full() is None
    assert entry.load_leading() is None
    full = BaseFactors(Dense(W0), entry).full()
    assert torch.equal(full.S, thin_svd(W0).S)
    again = entry.load_full()
    assert again is not None and torch.equal(again.S, full.S)  # and the forged entry is replaced
