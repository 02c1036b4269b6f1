"""One measured point of an intervention: the scores of every task, kept as a file of its own."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spectra.forgetting import Scores
from spectra.storage.atomic import read_json, write_json
from spectra.storage.destinations import mark

BASE = "base"
TUNED = "tuned"


@dataclass(frozen=True, eq=False)
class Point:
    """What one state of the model scored.

    Attributes:
        held_out: Scores by held-out task.
        own: Score on the task that it was tuned on; None where none was asked for, or the base has no such head.
    """

    held_out: Mapping[str, Scores]
    own: Scores | None

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "held_out": {name: scores.to_dict() for name, scores in self.held_out.items()},
            "own": self.own.to_dict() if self.own else None,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Point":
        """The inverse of `to_dict`."""
        held_out = {name: Scores.from_dict(scores) for name, scores in stored["held_out"].items()}
        return cls(held_out, Scores.from_dict(stored["own"]) if stored["own"] else None)


@dataclass(frozen=True, eq=False)
class PointStore:
    """Finished points in memory, and in a folder where one is given: a second run finds them.

    Attributes:
        folder: FOLDER/points holds one file per point; None keeps nothing on disk.
        common: What every point was measured with (model, tasks, arithmetic); a change of it makes new points.
    """

    folder: Path | None
    common: Mapping[str, Any]
    _found: dict[str, Point]

    @classmethod
    def at(cls, folder: Path | None, common: Mapping[str, Any]) -> "PointStore":
        """A store without points in memory."""
        return cls(folder, common, {})

    def find(self, state: Mapping[str, Any]) -> Point | None:
        """The point of a state of the model, such as {"arm": "intruders", "factor": 0.5, ...}."""
        key = self._key(state)
        path = self._path(key)
        if key not in self._found and path is not None and path.is_file():
            self._found[key] = Point.from_dict(read_json(path))
        return self._found.get(key)

    def keep(self, state: Mapping[str, Any], point: Point) -> None:
        """Keep a point; its file is whole or absent."""
        key = self._key(state)
        self._found[key] = point
        if self.folder is not None and (path := self._path(key)) is not None:
            mark(self.folder, "intervene")
            write_json(path, {"state": dict(state), "measured_with": dict(self.common), **point.to_dict()})

    def _key(self, state: Mapping[str, Any]) -> str:
        text = json.dumps([dict(self.common), dict(state)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def _path(self, key: str) -> Path | None:
        return None if self.folder is None else self.folder / "points" / f"{key}.json"
