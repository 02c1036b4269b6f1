"""Where a checkpoint lies: a local path, or a model of the hub in the local cache or online."""

import re
from pathlib import Path

from spectra.errors import CheckpointError
from spectra.storage.regular import require_regular, require_regular_entries

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
PATTERNS = ["*.safetensors", "*.json", "*.bin"]
WEIGHTS = ("*.safetensors", "*.bin")


def locate(name: str | Path, revision: str | None = None, *, role: str = "checkpoint") -> Path:
    """The local path of a checkpoint, downloading it if the hub can be reached and it is in no cache.

    Args:
        name: A path, or a hub id such as "roberta-base" or "org/name".
        revision: Branch, tag or commit of a hub id.
        role: What it is, for messages.

    Raises:
        CheckpointError: If it is neither on disk, nor in the cache, nor to be had.
    """
    path = Path(name).expanduser()
    if path.exists():
        if path.is_dir():
            require_regular_entries(path, CheckpointError)
        else:
            require_regular(path, CheckpointError)
        return path
    text = str(name)
    if not HUB_ID.fullmatch(text) or text.startswith("."):
        raise CheckpointError(f"The {role} '{text}' does not exist. Check the path.")
    cached = locate_locally(text, revision)
    if cached is not None:
        return cached
    downloaded = _snapshot(text, revision, local_files_only=False)
    if downloaded is None:
        at = f" at revision '{revision}'" if revision else ""
        raise CheckpointError(
            f"The {role} '{text}'{at} is no local path, is not in the hub's cache and cannot be downloaded. "
            "Check the name, go online once, or give a local path."
        )
    return downloaded


def locate_locally(name: str, revision: str | None = None) -> Path | None:
    """The local path of a checkpoint, or None; the network is not touched."""
    path = Path(name).expanduser()
    if path.exists():
        return path
    cached = _snapshot(name, revision, local_files_only=True) if HUB_ID.fullmatch(name) else None
    return cached if cached is not None and any(cached.glob(pattern) for pattern in WEIGHTS) else None


def has_cached_configuration(name: str) -> bool:
    """Whether config.json of a hub model was fetched before, though its weights may not have been."""
    from huggingface_hub import try_to_load_from_cache

    return HUB_ID.fullmatch(name) is not None and isinstance(try_to_load_from_cache(name, "config.json"), str)


def _snapshot(repo: str, revision: str | None, *, local_files_only: bool) -> Path | None:
    """The folder of a hub model's files, or None when it cannot be had."""
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                repo, revision=revision, local_files_only=local_files_only, allow_patterns=PATTERNS, etag_timeout=5
            )
        )
    except (OSError, ValueError):  # absent, offline, refused by the hub, or no valid id
        return None
