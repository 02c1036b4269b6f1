"""What lies at a place: the files of a hub model, behind an address, or in an object store."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote, urlsplit, urlunsplit

from spectra.errors import CheckpointError
from spectra.storage.json_file import MAX_JSON_BYTES
from spectra.weights.streams.far_file import FarFile, Traffic
from spectra.weights.streams.filesystem_file import PACKAGES, StoreFile, store_of
from spectra.weights.streams.http import AbsentError, DeniedError, Http
from spectra.weights.streams.http_file import HttpFile

SCHEMES = ("https", "http", *PACKAGES)

# Texts that say what a checkpoint is, at its top or one folder below.
CONFIGS = ("config.json", "hf_quant_config.json", "adapter_config.json", "spectra_origin.json")
INDEX = ".index.json"
WEIGHTS = ".safetensors"
# Files that are asked for where nobody lists what is there.
SINGLES = ("model", "diffusion_pytorch_model", "adapter_model", "adapters", "pytorch_lora_weights")
INDEXED = ("model", "diffusion_pytorch_model", "adapter_model")

COMMIT_LETTERS = 12


@dataclass(frozen=True, eq=False)
class Place:
    """The files at one place that concern a checkpoint.

    Attributes:
        shown: Its name in messages and results, without anything secret; with the commit where there is one.
        files: Files of tensors, by their path from the top.
        text: The content of a small text, by its path from the top; None where there is none.
        texts: The paths of all texts.
        traffic: What was read from here.
        main: The one file that was named, where a file was.
    """

    shown: str
    files: Mapping[str, FarFile]
    text: Callable[[str], bytes | None]
    texts: tuple[str, ...]
    traffic: Traffic
    main: str | None = None


def is_address(name: str) -> bool:
    """True for what has a scheme that is read: https://, s3://, gs://."""
    scheme, found, _ = name.partition("://")
    return bool(found) and scheme.lower() in SCHEMES


def shown_address(name: str) -> str:
    """An address without its login and its query, which may be secret."""
    parts = urlsplit(name)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def is_sound(name: str) -> bool:
    """True for a path that stays where it is put, at most one folder deep."""
    parts = PurePosixPath(name).parts
    wrong = name.startswith("/") or ".." in parts or "\\" in name or not name.isprintable()
    return not wrong and 1 <= len(parts) <= 2


def hub_place(repo: str, revision: str | None) -> Place:
    """The files of a model of the hub, at the commit that its revision names now.

    Raises:
        CheckpointError: If the hub cannot be asked, refuses, or knows no such model.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    traffic = Traffic()
    remedy = "Log in with `hf auth login`, and ask for access on the model's page if it is gated."
    http = Http(traffic, build_hf_headers, remedy)
    endpoint = constants.ENDPOINT.rstrip("/")
    wanted = quote(revision or "main", safe="")
    text = http.whole(f"{endpoint}/api/models/{repo}/revision/{wanted}", repo, MAX_JSON_BYTES)
    at = f" at revision '{revision}'" if revision else ""
    if text is None:
        raise CheckpointError(f"The hub knows no model '{repo}'{at} (status 404). Check the name and the revision.")
    commit, names = _told(text, repo)
    kept = [name for name in names if is_sound(name)]
    shown = f"{repo}@{commit[:COMMIT_LETTERS]}"

    def address(name: str) -> str:
        return f"{endpoint}/{repo}/resolve/{commit}/{quote(name)}"

    files = {name: HttpFile(address(name), Path(shown) / name, http, commit) for name in kept if name.endswith(WEIGHTS)}
    texts = tuple(name for name in kept if is_text(name))

    def content(name: str) -> bytes | None:
        return http.whole(address(name), f"{shown}/{name}", MAX_JSON_BYTES)

    return Place(shown, files, content, texts, traffic)


def is_text(name: str) -> bool:
    """True for a text that says what a checkpoint is."""
    return PurePosixPath(name).name in CONFIGS or name.endswith(INDEX)


def _told(text: bytes, repo: str) -> tuple[str, list[str]]:
    """The commit and the names of files, as the hub tells them."""
    try:
        match json.loads(text):
            case {"sha": str(commit), "siblings": [*siblings]} if commit.isalnum():
                return commit, [each["rfilename"] for each in siblings if isinstance(each["rfilename"], str)]
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    raise CheckpointError(f"What the hub tells of '{repo}' has no commit and no list of files. Try again later.")


def address_place(address: str) -> Place:
    """The files behind an address of a folder or of a file.

    Raises:
        CheckpointError: If nothing of a checkpoint is there.
    """
    scheme = address.partition("://")[0].lower()
    return _web_place(address) if scheme in ("http", "https") else _store_place(address)


def _web_place(address: str) -> Place:
    """A web server lists nothing: the usual names are asked for, and what an index names."""
    traffic = Traffic()
    http = Http(traffic)
    folder, main = _folder_and_file(address)
    shown = shown_address(folder).rstrip("/")
    parts = urlsplit(folder)

    def url(name: str) -> str:
        return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{quote(name)}"))

    found: dict[str, bytes] = {}
    refused: list[DeniedError] = []

    def text(name: str) -> bytes | None:
        if name not in found:
            try:
                content = http.whole(url(name), f"{shown}/{name}", MAX_JSON_BYTES)
            except DeniedError as error:  # stores behind the web answer so for what is not there
                refused.append(error)
                content = None
            if content is None:
                return None
            found[name] = content
        return found[name]

    files: dict[str, FarFile] = {}

    def add(name: str, *, required: bool) -> None:
        file = HttpFile(url(name), Path(shown) / name, http)
        try:
            _ = file.size
        except (AbsentError, DeniedError) as error:
            if required:
                raise
            if isinstance(error, DeniedError):
                refused.append(error)
            return
        files[name] = file

    indices = [main] if main is not None and main.endswith(".json") else []
    if main is None:
        for stem in SINGLES:
            add(stem + WEIGHTS, required=False)
        indices = [f"{stem}{WEIGHTS}{INDEX}" for stem in INDEXED if f"{stem}{WEIGHTS}" not in files]
    elif main.endswith(WEIGHTS):
        add(main, required=True)
    for index in indices:
        for name in _shards(text(index)):
            if is_sound(name):
                files[name] = HttpFile(url(name), Path(shown) / name, http)
    for name in CONFIGS:
        text(name)
    if not files:
        if refused:
            raise refused[0]
        raise CheckpointError(
            f"Behind '{shown_address(address)}' there is no checkpoint in safetensors that could be read. "
            "Name the folder of a checkpoint, its index or its file."
        )
    return Place(shown, files, text, tuple(found), traffic, main)


def _folder_and_file(address: str) -> tuple[str, str | None]:
    """The address of the folder, and the file that was named in it."""
    parts = urlsplit(address)
    folder, _, last = parts.path.rpartition("/")
    if not last.endswith((WEIGHTS, ".json")):
        return address, None
    return urlunsplit(parts._replace(path=folder)), last


def _shards(text: bytes | None) -> list[str]:
    """The shards that an index names; what is wrong with it is said where it is read again."""
    try:
        weight_map = json.loads(text or b"{}").get("weight_map", {})
        return list(dict.fromkeys(name for name in weight_map.values() if isinstance(name, str)))
    except (ValueError, AttributeError, RecursionError):
        return []


def _store_place(address: str) -> Place:
    traffic = Traffic()
    store, path = store_of(address)
    main = path.rpartition("/")[2] if path.endswith((WEIGHTS, ".json")) else None
    folder = path.rpartition("/")[0] if main else path.rstrip("/")
    shown = shown_address(address).rstrip("/").removesuffix(f"/{main}")
    try:
        listed = [str(each).removeprefix(folder).lstrip("/") for each in store.find(folder, maxdepth=2)]
    except PermissionError as error:
        raise CheckpointError(f"The store refuses '{shown}'. Check that you may read it.") from error
    except OSError as error:
        raise CheckpointError(f"'{shown}' cannot be listed ({error}). Check the address.") from error
    kept = [name for name in listed if is_sound(name)]

    def text(name: str) -> bytes | None:
        file = StoreFile(store, f"{folder}/{name}", Path(shown) / name, traffic)
        if file.size > MAX_JSON_BYTES:
            raise CheckpointError(f"'{shown}/{name}' has more than the {MAX_JSON_BYTES} bytes that are read. Check it.")
        return file.head(0, file.size)

    files: dict[str, FarFile] = {
        name: StoreFile(store, f"{folder}/{name}", Path(shown) / name, traffic)
        for name in kept
        if name.endswith(WEIGHTS)
    }
    if not files:
        raise CheckpointError(f"'{shown}' holds no file of safetensors. Check the address.")
    return Place(shown, files, text, tuple(name for name in kept if is_text(name)), traffic, main)
