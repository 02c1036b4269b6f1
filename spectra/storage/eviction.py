"""Folders of a bounded size, for what can be made again: the file used or written longest ago goes first."""

from pathlib import Path

from spectra.storage.atomic import clear_abandoned


def evict(folder: Path, pattern: str, limit_bytes: int) -> None:
    """Drop files of a folder until the others are within a limit, and what killed writers left there.

    A file that another process has dropped already, or that may not be dropped, is passed over.

    Args:
        folder: The folder; it may be absent.
        pattern: Which of its files count, such as "*.json".
        limit_bytes: What they may take up together.
    """
    clear_abandoned(folder)
    entries = []
    for path in folder.glob(pattern):
        try:
            facts = path.stat()
        except OSError:
            continue
        entries.append((facts.st_mtime_ns, facts.st_size, path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= limit_bytes:
            break
        try:
            path.unlink(missing_ok=True)
        except OSError:
            continue
        total -= size
