"""Simulated controls on disk: one JSON file per question, named by the hash of everything that decides the answer."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from spectra.assets import cache_folder
from spectra.errors import RunError
from spectra.storage import atomic
from spectra.storage.eviction import evict
from spectra.storage.private import give_up, is_sealed, is_usable, seal

FORMAT = "spectra-nulls-2"
LIMIT_BYTES = 1 << 30


class NullStore:
    """Answers of simulations, kept in a folder (None keeps them for this process alone)."""

    def __init__(self, folder: Path | None = None, *, keep: bool = True) -> None:
        """Use a folder, by default `nulls` in the cache folder of spectra; it is made on the first write."""
        self.folder = (folder if folder is not None else cache_folder() / "nulls") if keep else None
        self.known: dict[str, Any] = {}
        if self.folder is not None:
            evict(self.folder, "*.json", LIMIT_BYTES)

    def recall(self, question: Mapping[str, Any], answer: Callable[[], Any]) -> Any:
        """The stored answer, or the one that `answer` gives, then stored. An unreadable file is answered anew.

        Args:
            question: Everything that decides the answer: what is simulated, of what, with which seed.
            answer: Simulates; what it returns is kept as JSON.
        """
        name = hashlib.sha256(json.dumps({"format": FORMAT, **question}, sort_keys=True).encode()).hexdigest()
        if name not in self.known:
            found = self._read(name)
            if found is None:
                found = answer()
                self._write(name, question, found)
            self.known[name] = found
        return self.known[name]

    def _read(self, name: str) -> Any:
        if self.folder is None or not (self.folder / f"{name}.json").is_file() or not is_usable(self.folder):
            return None
        try:
            stored = atomic.read_json(self.folder / f"{name}.json")
        except RunError:
            return None
        return stored.get("answer") if is_sealed(stored.get("seal"), *_parts(name, stored.get("answer"))) else None

    def _write(self, name: str, question: Mapping[str, Any], answer: Any) -> None:
        if self.folder is None or not is_usable(self.folder):
            return
        held = {"question": dict(question), "answer": answer, "seal": seal(*_parts(name, answer))}
        try:
            atomic.write_json(self.folder / f"{name}.json", held)
        except OSError as error:
            give_up(self.folder, error)


def _parts(name: str, answer: Any) -> tuple[bytes, bytes]:
    """What a seal binds: the question, which the name is a hash of, and the answer."""
    return name.encode(), json.dumps(answer, sort_keys=True).encode()
