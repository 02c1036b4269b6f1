"""What an interrupted scan had finished: one line per base matrix, taken up again by the same scan of the same files.

The journal is named after everything that decides the result: the files of both checkpoints (path, size and time of
change), the settings, the matrices, the version. A scan that finishes removes its journal.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from spectra.assets import cache_folder
from spectra.records.matrix_scan import MatrixScan
from spectra.records.provenance import versions
from spectra.scanning.settings import ScanSettings
from spectra.storage.cached_files import CachedFiles
from spectra.storage.keyed import digest
from spectra.weights import CheckpointPair
from spectra.weights.streams.plan import StreamPlan, stored_in

LIMIT_BYTES = 1 << 30
Place = tuple[int, int]  # checkpoint, matrix


@dataclass(frozen=True)
class Finished:
    """What a scan found out about the matrices that share one W0.

    Attributes:
        places: Where they stand.
        matrices: One record for each.
        beside: Rows about several of them together.
        arrived: What another process read of distant files for them (`StreamPlan.arrived`).
        version: Which ones (`StreamPlan.version`).
    """

    places: Sequence[Place]
    matrices: Sequence[MatrixScan]
    beside: Sequence[Mapping[str, Any]] = ()
    arrived: Mapping[str, int] = field(default_factory=dict)
    version: tuple[tuple[str, str], ...] = ()


class Journal:
    """The finished matrices of one scan, on disk."""

    def __init__(
        self,
        pairs: Sequence[CheckpointPair],
        settings: ScanSettings,
        folder: Path | None = None,
        *,
        question: Mapping[str, Any] | None = None,
    ) -> None:
        """Name the journal of this scan; nothing is written before `add`.

        Args:
            pairs: The checkpoints.
            settings: The question.
            folder: Where journals are kept; by default `scans` in the cache folder of spectra.
            question: What else decides the result.
        """
        folder = folder if folder is not None else cache_folder() / "scans"
        self._files = CachedFiles(folder, ".jsonl", LIMIT_BYTES)
        self._files.evict()  # journals of scans that nobody has taken up again
        # The name binds a line to the scan: to its inputs and its question.
        self._name = _fingerprint(pairs, settings, question or {})
        self.path = self._files.path(self._name)

    def read(self) -> Iterator[Finished]:
        """What was finished. A line that was cut off by a kill, or that somebody else wrote, is passed over."""
        path = self._files.find(self._name)
        for line in path.read_bytes().splitlines() if path else ():
            found, _, text = line.partition(b" ")
            if not self._files.is_sealed(found.decode(errors="replace"), self._name, text):
                continue
            try:
                entry = json.loads(text)
                places = [(int(i), int(j)) for i, j in entry["places"]]
                matrices = [MatrixScan.from_dict(matrix) for matrix in entry["matrices"]]
                yield Finished(places, matrices, entry["beside"])
            except (ValueError, KeyError, TypeError):
                continue

    def add(self, finished: Finished) -> None:
        """Append the matrices of one W0."""
        entry = {"places": finished.places, "matrices": [matrix.to_dict() for matrix in finished.matrices]}
        text = json.dumps({**entry, "beside": list(finished.beside)}, allow_nan=False).encode()
        with self._files.writing(self._name) as path:
            if path is None:
                return
            line = self._files.seal(self._name, text).encode() + b" " + text + b"\n"
            with path.open("a+b") as stream:
                if stream.seek(0, os.SEEK_END):
                    stream.seek(-1, os.SEEK_END)
                    if stream.read(1) != b"\n":
                        stream.write(b"\n")  # a killed writer's line was cut off
                stream.write(line)

    def close(self) -> None:
        """The scan is complete: nothing is left to take up."""
        with contextlib.suppress(OSError):  # what stays is found again by the same scan
            self.path.unlink(missing_ok=True)


def _fingerprint(pairs: Sequence[CheckpointPair], settings: ScanSettings, question: Mapping[str, Any]) -> str:
    facts = {
        "version": versions()["spectra"],
        "settings": asdict(settings),
        "question": dict(question),
        "pairs": [
            {
                "files": _files(pair),
                "checkpoint": pair.checkpoint,
                "kind": pair.method,
                "matrices": [
                    [str(matrix.name), list(matrix.shape), str(matrix.W0.dtype), matrix.lora and asdict(matrix.lora)]
                    for matrix in pair.matrices
                ],
            }
            for pair in pairs
        ],
    }
    return digest(facts)


def _files(pair: CheckpointPair) -> list[list[Any]]:
    """Path, size and time of change of every file that the scan reads; of a distant one its version."""
    read = {tensor.path for matrix in pair.matrices for _, tensor in stored_in((matrix.W0, matrix.change))}
    distant = {file.shown: file for file in StreamPlan.of([pair]).files}
    paths = read - set(distant)
    checkpoint = Path(pair.checkpoint)
    paths |= {file for file in checkpoint.rglob("*") if file.is_file()} if checkpoint.is_dir() else {checkpoint}
    there = [[str(path), facts.st_size, facts.st_mtime_ns] for path in sorted(paths) if (facts := _stat(path))]
    return there + [[str(path), stream.size, stream.version] for path, stream in sorted(distant.items())]


def _stat(path: Path) -> Any:
    return path.stat() if path.exists() else None
