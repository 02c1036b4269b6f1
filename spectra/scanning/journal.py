"""What an interrupted scan had finished: one line per matrix, taken up again by the same scan of the same files.

The journal is named after everything that decides the result: the files of both checkpoints (path, size and time of
change), the settings, the matrices, the version. A scan that finishes removes its journal.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spectra.assets import cache_folder
from spectra.records.intruder_scan import MatrixSpectrum, UpdateNorms, VectorVerdict
from spectra.records.provenance import versions
from spectra.scanning.settings import ScanSettings
from spectra.weights import CheckpointPair

Place = tuple[int, int]


class Journal:
    """The finished matrices of one scan, on disk."""

    def __init__(self, pairs: Sequence[CheckpointPair], settings: ScanSettings, folder: Path | None = None) -> None:
        """Name the journal of this scan; nothing is written before `add`."""
        folder = folder if folder is not None else cache_folder() / "scans"
        self.path = folder / f"{_fingerprint(pairs, settings)}.jsonl"

    def read(self) -> Iterator[tuple[Place, MatrixSpectrum]]:
        """What was finished. A line that was cut off by a kill ends the reading."""
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                entry = json.loads(line)
                place, spectrum = entry["place"], _spectrum(entry["spectrum"])
            except (ValueError, KeyError, TypeError):
                return
            yield (int(place[0]), int(place[1])), spectrum

    def add(self, place: Place, spectrum: MatrixSpectrum) -> None:
        """Append one matrix."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"place": place, "spectrum": asdict(spectrum)}) + "\n")

    def close(self) -> None:
        """The scan is complete: nothing is left to take up."""
        self.path.unlink(missing_ok=True)


def _fingerprint(pairs: Sequence[CheckpointPair], settings: ScanSettings) -> str:
    facts = {
        "version": versions()["spectra"],
        "settings": asdict(settings),
        "pairs": [
            {
                "files": _files(pair),
                "checkpoint": pair.checkpoint,
                "matrices": [[str(matrix.name), list(matrix.shape), str(matrix.W0.dtype)] for matrix in pair.matrices],
            }
            for pair in pairs
        ],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _files(pair: CheckpointPair) -> list[list[Any]]:
    """Path, size and time of change of every file that the scan reads."""
    paths = {block.tensor.path for matrix in pair.matrices for block in matrix.W0.blocks}
    checkpoint = Path(pair.checkpoint)
    paths |= {file for file in checkpoint.rglob("*") if file.is_file()} if checkpoint.is_dir() else {checkpoint}
    return [[str(path), facts.st_size, facts.st_mtime_ns] for path in sorted(paths) if (facts := _stat(path))]


def _stat(path: Path) -> Any:
    return path.stat() if path.exists() else None


def _spectrum(entry: dict[str, Any]) -> MatrixSpectrum:
    update = entry.pop("update")
    vectors = tuple(VectorVerdict(**vector) for vector in entry.pop("vectors"))
    shape, values = tuple(entry.pop("shape")), tuple(entry.pop("update_values"))
    norms = UpdateNorms(**update) if update is not None else None
    return MatrixSpectrum(**entry, shape=shape, vectors=vectors, update=norms, update_values=values)
