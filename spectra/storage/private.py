"""What only this user may have written: a secret key, seals made with it, and folders that nobody else can write.

A seal is a keyed hash (HMAC-SHA256). Results that are kept to save time (journals, factors, simulated controls) carry
one, so that an entry which somebody else put into the folder is computed anew instead of believed.
"""

import contextlib
import hashlib
import hmac
import logging
import os
import secrets
import stat
import sys
from functools import cache
from pathlib import Path

from spectra.errors import SpectraError
from spectra.storage.atomic import clear_abandoned, partial_folder

KEY_BYTES = 32
logger = logging.getLogger("spectra")
_given_up: set[Path] = set()


class PrivateFolderError(SpectraError):
    """A folder that must be this user's alone is not, or cannot be made."""


def config_folder() -> Path:
    """Where the key lies: $SPECTRA_CONFIG, or the user's configuration folder."""
    if chosen := os.environ.get("SPECTRA_CONFIG"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA", Path.home() / "AppData" / "Roaming")) / "spectra"
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "spectra"


def require_private(folder: Path) -> None:
    """Make a folder for this user alone, or check that nobody else can write to the one that is there.

    Raises:
        PrivateFolderError: If it belongs to somebody else, others may write to it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        facts = folder.stat()
    except OSError as error:
        raise PrivateFolderError(
            f"'{folder}' cannot be made ({error.strerror}). Name a folder that can be written to."
        ) from error
    if not stat.S_ISDIR(facts.st_mode):
        raise PrivateFolderError(f"'{folder}' is no folder. Name another one.")
    if hasattr(os, "getuid") and facts.st_uid not in (os.getuid(), 0):
        raise PrivateFolderError(f"'{folder}' belongs to another user. Name a folder of your own.")
    if hasattr(os, "getuid") and facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PrivateFolderError(f"Others may write to '{folder}'. Take that away with `chmod go-w`.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PrivateFolderError(f"'{folder}' cannot be written to. Name a folder that can.")


def is_usable(folder: Path) -> bool:
    """Whether results may be kept in a folder and believed when they are found there; if not, one warning says why.

    What is only kept to save time must not end a command: without a folder it is computed each time.
    """
    if folder in _given_up:
        return False
    try:
        require_private(folder)
        _key(config_folder())
    except PrivateFolderError as error:
        give_up(folder, error)
        return False
    return True


def give_up(folder: Path, error: Exception) -> None:
    """Use a folder no more in this process; of several folders side by side, only the first one is warned of."""
    if all(other.parent != folder.parent for other in _given_up):
        reason = str(error).rstrip(".")
        logger.warning(
            f"Nothing is kept in '{folder.parent}' for the next call: {reason}. Results are the same and take longer; "
            "SPECTRA_CACHE names another folder."
        )
    _given_up.add(folder)


def seal(*parts: bytes | memoryview) -> str:
    """The keyed hash of some parts, in hexadecimal digits; the bounds between the parts count.

    Raises:
        PrivateFolderError: If the key cannot be kept where nobody else reads it.
    """
    digest = hmac.new(_key(config_folder()), digestmod=hashlib.sha256)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


def is_sealed(found: object, *parts: bytes | memoryview) -> bool:
    """Whether `found` is the seal of these parts.

    Raises:
        PrivateFolderError: If the key cannot be kept where nobody else reads it.
    """
    return isinstance(found, str) and found.isascii() and hmac.compare_digest(found, seal(*parts))


@cache
def _key(folder: Path) -> bytes:
    """The user's key, drawn on first use, in a file that only this user can read."""
    require_private(folder)
    path = folder / "key"
    clear_abandoned(folder, path.name)
    try:
        if not path.exists():
            _draw(path)
        facts = path.stat()
        key = path.read_bytes()
    except OSError as error:
        raise PrivateFolderError(
            f"The key '{path}' cannot be kept ({error.strerror}). Let SPECTRA_CONFIG name a folder that can be written."
        ) from error
    if hasattr(os, "getuid") and (facts.st_uid != os.getuid() or facts.st_mode & 0o077):
        raise PrivateFolderError(f"Others may read the key '{path}'. Delete it; a new one is made.")
    if len(key) != KEY_BYTES:
        raise PrivateFolderError(f"The key '{path}' has {len(key)} bytes, not {KEY_BYTES}. Delete it.")
    return key


def _draw(path: Path) -> None:
    """Write a new key whole; of two processes that do it at once, one wins and both use its key."""
    with partial_folder(path) as folder:
        descriptor = os.open(folder / path.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(secrets.token_bytes(KEY_BYTES))
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(folder / path.name)
