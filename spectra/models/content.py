"""What a model is, by its content: the same path may hold other weights tomorrow."""

import hashlib
import re
from functools import lru_cache
from pathlib import Path

from spectra.models.base import resolve_model
from spectra.weights.formats.hub import locate

# Files that decide what is loaded: weights, configurations, and a tokenizer's vocabulary.
SUFFIXES = {".safetensors", ".json", ".model", ".txt", ".jinja", ".tiktoken", ".bin"}
COMMIT = re.compile(r"[0-9a-f]{40}")
BLOCK = 1 << 22


def content_of(reference: str | Path) -> str:
    """SHA-256 over the files of a checkpoint folder or file, by name and content; the commit of a hub model.

    A file is read again when its size, its times or its place on the disk have changed since it was read last in this
    process. Cost: one pass over the weights.

    Args:
        reference: Folder, file, asset name or hub id.

    Raises:
        ModelError: If it is a path that does not exist.
        CheckpointError: If it is a hub model that cannot be had.
    """
    place = locate(resolve_model(str(reference)))
    resolved = place.resolve()
    if resolved.parent.name == "snapshots" and COMMIT.fullmatch(resolved.name):
        return f"commit {resolved.name}"
    files = [place] if place.is_file() else sorted(path for path in place.iterdir() if path.suffix in SUFFIXES)
    digest = hashlib.sha256()
    for file in files:
        if file.is_file():
            digest.update(f"{file.name}\x00{_digest(file)}\x00".encode())
    return f"sha256 {digest.hexdigest()}"


def _digest(file: Path) -> str:
    state = file.stat()
    return _read(str(file.resolve()), state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)


@lru_cache(maxsize=4096)
def _read(file: str, *state: int) -> str:
    """SHA-256 of a file in this state; `state` is there for the cache."""
    digest = hashlib.sha256()
    with Path(file).open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
