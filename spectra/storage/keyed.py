"""Answers kept by the question that they answer: everything that decides an answer is in its key.

Two questions that differ in any part never share an answer, and an answer is there whole or not at all.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spectra.storage.atomic import clear_abandoned, read_json, write_json
from spectra.storage.destinations import mark


class KeyedStore:
    """JSON objects by question, in memory and, where a folder is given, as one file each in a folder of a run."""

    def __init__(self, folder: Path | None, name: str, *, owner: str) -> None:
        """Keep the answers of one kind.

        Args:
            folder: Folder of the run; None keeps them for this process alone.
            name: Sub-folder of the answers, such as "scores".
            owner: Command that the folder belongs to; it is marked on the first write.
        """
        self._folder = folder
        self._name = name
        self._owner = owner
        self._known: dict[str, Mapping[str, Any]] = {}
        if folder is not None:
            for place in (folder, folder / name):
                clear_abandoned(place)  # an answer that is there is never written again, nor what a kill left of it

    def find(self, question: Any) -> Mapping[str, Any] | None:
        """The answer to an equal question, if there is one.

        Args:
            question: A JSON value that holds everything that decides the answer.

        Raises:
            RunError: If the file of the answer holds no JSON object.
        """
        key = digest(question)[:24]
        if key not in self._known and self._folder is not None and (path := self._path(self._folder, key)).is_file():
            self._known[key] = read_json(path)
        return self._known.get(key)

    def keep(self, question: Any, answer: Mapping[str, Any]) -> None:
        """Keep an answer; its file is whole or absent."""
        key = digest(question)[:24]
        self._known[key] = answer
        if self._folder is not None:
            mark(self._folder, self._owner)
            write_json(self._path(self._folder, key), answer)

    def _path(self, folder: Path, key: str) -> Path:
        return folder / self._name / f"{key}.json"


def digest(question: Any) -> str:
    """The SHA-256 of a JSON value in its one spelling with sorted keys, in hexadecimal digits."""
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()


__all__ = ["KeyedStore", "digest"]
