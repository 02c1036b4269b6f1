"""Where a checkpoint lies: a local path, an asset, a model of the hub in the local cache or online, or an address."""

import re
from pathlib import Path

from spectra.assets import fetch, fetched, model_asset
from spectra.errors import CheckpointError
from spectra.storage.json_file import read_object
from spectra.storage.regular import require_regular, require_regular_entries
from spectra.weights.streams.opened import no_stream, open_stream
from spectra.weights.streams.places import is_address

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
PATTERNS = ["*.safetensors", "*.json", "*.bin"]
WEIGHTS = ("*.safetensors", "*.bin")


def locate(name: str | Path, revision: str | None = None, *, role: str = "checkpoint", stream: bool = False) -> Path:
    """The local path of a checkpoint, downloading it if the hub can be reached and it is in no cache.

    Args:
        name: A path, the name of an asset, a hub id such as "roberta-base" or "org/name", or an address such as
            "s3://bucket/folder"; the first of these that it is.
        revision: Branch, tag or commit of a hub id.
        role: What it is, for messages.
        stream: Do not download: give a folder that stands for the distant files, of which only what is read travels.
            A model of the hub without safetensors is downloaded all the same.

    Raises:
        CheckpointError: If it is neither on disk, nor in the cache, nor to be had.
        AssetError: If it is an asset that cannot be fetched.
    """
    path = Path(name).expanduser()
    if path.exists():
        if path.is_dir():
            require_regular_entries(path, CheckpointError)
        else:
            require_regular(path, CheckpointError)
        return path
    from huggingface_hub import constants

    text = str(name)
    if model_asset(text) is not None:
        return fetch(text)
    if is_address(text):
        if not stream:
            raise no_stream(text)
        return open_stream(text)
    if not HUB_ID.fullmatch(text) or text.startswith("."):
        raise CheckpointError(f"The {role} '{text}' does not exist. Check the path.")
    cached = locate_locally(text, revision)
    if cached is not None and not (stream and _lacks_shards(cached)):
        return cached
    if stream and not constants.HF_HUB_OFFLINE:
        folder = open_stream(text, revision)
        if any(folder.rglob("*.safetensors")):
            return folder
    downloaded = _snapshot(text, revision, local_files_only=False)
    if downloaded is None:
        at = f" at revision '{revision}'" if revision else ""
        raise CheckpointError(
            f"The {role} '{text}'{at} is no local path, is not in the hub's cache and cannot be downloaded. "
            "Check the name, go online once, or give a local path."
        )
    return downloaded


def _lacks_shards(folder: Path) -> bool:
    """True where an index of a folder names shards that are not there: a download that was interrupted."""
    for index in folder.glob("*.safetensors.index.json"):
        weight_map = read_object(index).get("weight_map")
        names = weight_map.values() if isinstance(weight_map, dict) else ()
        if any(isinstance(name, str) and not (folder / name).is_file() for name in names):
            return True
    return False


def locate_locally(name: str, revision: str | None = None) -> Path | None:
    """The local path of a checkpoint, or None; the network is not touched."""
    path = Path(name).expanduser()
    if path.exists():
        return path
    if model_asset(name) is not None:
        return fetched(name)
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
