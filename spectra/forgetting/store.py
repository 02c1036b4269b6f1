"""Finished scores on disk, so that an interrupted measurement continues where it was."""

import hashlib
import json
from pathlib import Path
from typing import Any

from spectra.forgetting.held_out import HeldOut
from spectra.statistics.scores import Scores
from spectra.storage.atomic import read_json, write_json
from spectra.storage.destinations import mark


class ScoreStore:
    """Scores by all that they depend on; without a folder, nothing is kept."""

    def __init__(self, folder: Path | None, **settings: Any) -> None:
        self._folder = folder
        self._settings = settings

    def find(self, model: dict[str, Any], held_out: HeldOut) -> Scores | None:
        """The scores of an earlier, identical measurement.

        Args:
            model: All that makes the model, by content: base, adapter, head.
            held_out: The task.
        """
        path = self._path(model, held_out)
        return Scores.from_dict(read_json(path)) if path is not None and path.is_file() else None

    def keep(self, model: dict[str, Any], held_out: HeldOut, scores: Scores) -> None:
        """Write scores, whole or not at all."""
        if self._folder is not None and (path := self._path(model, held_out)) is not None:
            mark(self._folder, "forget")
            write_json(path, scores.to_dict())

    def _path(self, model: dict[str, Any], held_out: HeldOut) -> Path | None:
        if self._folder is None:
            return None
        key = json.dumps([model, held_out.identity, self._settings], sort_keys=True)
        return self._folder / "scores" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
