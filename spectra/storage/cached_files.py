"""Files that only save time: a folder of bounded size whose entries are believed only if this user wrote them.

A folder that cannot be written, or that others may write to, costs time and no result: one warning names the reason,
and everything is computed anew. Each entry carries a seal (`private`) over its name and its content.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spectra.storage.atomic import clear_abandoned
from spectra.storage.private import give_up, is_sealed, is_usable, seal


@dataclass(frozen=True)
class CachedFiles:
    """The files of one kind in a folder, of which the one used or written longest ago goes first.

    Attributes:
        folder: The folder; it is made on the first write.
        suffix: What the names of its files end with, such as ".json".
        limit_bytes: What they may take up together.
    """

    folder: Path
    suffix: str
    limit_bytes: int

    def path(self, name: str) -> Path:
        """The file of an entry, whether or not it is there."""
        return self.folder / f"{name}{self.suffix}"

    def find(self, name: str) -> Path | None:
        """The file of an entry that is there and may be read."""
        path = self.path(name)
        return path if path.is_file() and is_usable(self.folder) else None

    @contextlib.contextmanager
    def writing(self, name: str, *also: type[Exception]) -> Iterator[Path | None]:
        """The path to write an entry to, or None where nothing can be kept; a failure there ends the use of the folder.

        Args:
            name: The entry.
            also: Exceptions of the writer's library that mean the same as an OSError.
        """
        if not is_usable(self.folder):
            yield None
            return
        failures: tuple[type[Exception], ...] = (OSError, *also)
        try:
            yield self.path(name)
        except failures as error:
            give_up(self.folder, error)

    def seal(self, name: str, *parts: bytes | memoryview) -> str:
        """What binds content to an entry: a keyed hash of both."""
        return seal(name.encode(), *parts)

    def is_sealed(self, found: object, name: str, *parts: bytes | memoryview) -> bool:
        """Whether `found` is the seal of this content under this name."""
        return is_sealed(found, name.encode(), *parts)

    def evict(self) -> None:
        """Drop the oldest files beyond the limit, and what killed writers left in the folder.

        A file that another process has dropped already, or that may not be dropped, is passed over.
        """
        clear_abandoned(self.folder)
        entries = []
        for path in self.folder.glob(f"*{self.suffix}"):
            try:
                facts = path.stat()
            except OSError:
                continue
            entries.append((facts.st_mtime_ns, facts.st_size, path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self.limit_bytes:
                break
            try:
                path.unlink(missing_ok=True)
            except OSError:
                continue
            total -= size


__all__ = ["CachedFiles"]
