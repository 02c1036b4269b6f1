"""Simulated controls on disk: one JSON file per question, named by the hash of everything that decides the answer."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from spectra.assets import cache_folder
from spectra.errors import RunError
from spectra.storage import atomic
from spectra.storage.cached_files import CachedFiles
from spectra.storage.keyed import digest

FORMAT = "spectra-nulls-3"
LIMIT_BYTES = 1 << 30


class NullStore:
    """Answers of simulations, kept in a folder (or for this process alone)."""

    def __init__(self, folder: Path | None = None, *, keep: bool = True) -> None:
        """Use a folder, by default `nulls` in the cache folder of spectra; it is made on the first write."""
        folder = folder if folder is not None else cache_folder() / "nulls"
        self._files = CachedFiles(folder, ".json", LIMIT_BYTES) if keep else None
        self._known: dict[str, Any] = {}
        if self._files is not None:
            self._files.evict()

    def recall(self, question: Mapping[str, Any], answer: Callable[[], Any]) -> Any:
        """The stored answer, or the one that `answer` gives, then stored. An unreadable file is answered anew.

        Args:
            question: Everything that decides the answer: what is simulated, of what, with which seed.
            answer: Simulates; what it returns is kept as JSON.
        """
        name = digest({"format": FORMAT, **question})
        if name not in self._known:
            found = self._read(name)
            if found is None:
                found = answer()
                self._write(name, question, found)
            self._known[name] = found
        return self._known[name]

    def _read(self, name: str) -> Any:
        if self._files is None or (path := self._files.find(name)) is None:
            return None
        try:
            stored = atomic.read_json(path)
        except RunError:
            return None
        answer = stored.get("answer")
        return answer if self._files.is_sealed(stored.get("seal"), name, _content(answer)) else None

    def _write(self, name: str, question: Mapping[str, Any], answer: Any) -> None:
        if self._files is None:
            return
        with self._files.writing(name) as path:
            if path is not None:
                held = {"question": dict(question), "answer": answer, "seal": self._files.seal(name, _content(answer))}
                atomic.write_json(path, held)


def _content(answer: Any) -> bytes:
    """What a seal binds beside the name, which is the hash of the question."""
    return json.dumps(answer, sort_keys=True).encode()
