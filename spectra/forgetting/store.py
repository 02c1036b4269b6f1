"""Finished scores on disk, so that an interrupted measurement continues where it was."""

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from spectra.forgetting.held_out import HeldOut
from spectra.statistics.scores import Scores
from spectra.storage.atomic import read_json, write_json
from spectra.storage.destinations import mark


class ScoreStore:
    """Scores by what they were measured on and with; without a folder, nothing is kept."""

    def __init__(self, folder: Path | None, **settings: Any) -> None:
        self._folder = folder
        self._settings = settings

    def find(self, model: str, held_out: HeldOut) -> Scores | None:
        """The scores of an earlier, identical measurement."""
        path = self._path(model, held_out)
        return Scores.from_dict(read_json(path)) if path is not None and path.is_file() else None

    def keep(self, model: str, held_out: HeldOut, scores: Scores) -> None:
        """Write scores, whole or not at all."""
        if self._folder is not None and (path := self._path(model, held_out)) is not None:
            mark(self._folder, "forget")
            write_json(path, scores.to_dict())

    def _path(self, model: str, held_out: HeldOut) -> Path | None:
        if self._folder is None:
            return None
        data = held_out.data.fingerprint if held_out.data is not None else None
        task = {**asdict(replace(held_out, data=None)), "data": data}
        key = json.dumps([identity(model), task, self._settings], sort_keys=True)
        return self._folder / "scores" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"


def identity(reference: str) -> str:
    """A model's name, or for a folder its path with size and time of each file: a rewritten checkpoint is another."""
    folder = Path(reference)
    if not folder.is_dir():
        return reference
    files = sorted(path for path in folder.iterdir() if path.suffix in {".safetensors", ".json"})
    states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return json.dumps([str(folder.resolve()), states])
