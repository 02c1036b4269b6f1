"""The table of file formats: how a file is recognised, and how it becomes named tensors.

A format is told by the first bytes of the file where they say it, so that a renamed file is read for what it is.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from spectra.errors import CheckpointError
from spectra.registry import Registry
from spectra.weights.formats.gguf_file import open_gguf
from spectra.weights.formats.named import NamedTensors
from spectra.weights.formats.pickle_file import open_pickle
from spectra.weights.formats.safetensors_file import open_safetensors


@dataclass(frozen=True)
class CheckpointFormat:
    """One file format.

    Attributes:
        name: Short name.
        suffixes: How its files usually end.
        recognises: Whether a file is of this format, from its first bytes and its name.
        open: The named tensors of a file; nothing but headers is read.
        runs_code: True when opening a file could run code, so that the user has to allow it.
        documentation: One line.
    """

    name: str
    suffixes: tuple[str, ...]
    recognises: Callable[[bytes, Path], bool]
    open: Callable[[Path], NamedTensors]
    runs_code: bool
    documentation: str


# The first bytes that are looked at.
HEAD_BYTES = 264
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
ZIP, TAR_AT, TAR = b"PK\x03\x04", 257, b"ustar"


def _is_pickle(head: bytes, path: Path) -> bool:
    """A zip archive, or the opcode PROTO; the latter may also begin the length of a safetensors header."""
    if head.startswith(ZIP) or path.suffix in PICKLE_SUFFIXES:
        return True
    begins = head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    return begins and head[8:9] != b"{" and path.suffix != ".safetensors"


def _open_archive(path: Path) -> NamedTensors:
    raise CheckpointError(
        f"'{path}' is an archive (tar), such as NeMo writes, not a file of tensors. "
        "Unpack it and give the file or folder of weights inside."
    )


def _open_safetensors(path: Path) -> NamedTensors:
    opened = open_safetensors(path)
    return NamedTensors(opened.tensors, opened.metadata)


# In the order in which they are asked; the last takes what no other recognises, and says what is wrong with it.
FORMATS: Registry[CheckpointFormat] = Registry(
    "spectra.checkpoint_formats",
    "checkpoint format",
    CheckpointFormat,
    (
        CheckpointFormat(
            "gguf",
            (".gguf",),
            lambda head, path: head.startswith(b"GGUF") or path.suffix == ".gguf",
            open_gguf,
            False,
            "GGUF, weights and LoRA adapters, dequantised with the gguf package",
        ),
        CheckpointFormat(
            "pickle",
            PICKLE_SUFFIXES,
            _is_pickle,
            open_pickle,
            True,
            "torch's pickles, flat or nested as trainers save them, with --allow-pickle",
        ),
        CheckpointFormat(
            "archive",
            (".nemo", ".tar"),
            lambda head, path: head[TAR_AT:].startswith(TAR),
            _open_archive,
            False,
            "refused: unpack it first",
        ),
        CheckpointFormat(
            "safetensors",
            (".safetensors",),
            lambda head, path: True,
            _open_safetensors,
            False,
            "safetensors",
        ),
    ),
)


LONGEST_NAME = 1000
MOST_DIGITS = 6


def added_suffixes() -> tuple[str, ...]:
    """Endings of the files of other packages' formats."""
    return tuple(suffix for entry in FORMATS.added for suffix in entry.suffixes)


def format_of(path: Path) -> CheckpointFormat:
    """The format of a file.

    Raises:
        CheckpointError: If the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError as error:
        raise CheckpointError(
            f"'{path}' cannot be read ({error.strerror}). Check the path and its permissions."
        ) from error
    # Other packages' formats are asked first: they know their own files better, such as a zip that is no pickle.
    return next(entry for entry in (*FORMATS.added, *FORMATS.own) if entry.recognises(head, path))


def open_file(path: Path, *, allow_pickle: bool = False) -> NamedTensors:
    """The named tensors of a file of any known format.

    Raises:
        CheckpointError: If the file is broken, or could run code and the user did not allow that.
    """
    found = format_of(path)
    if found.runs_code and not allow_pickle:
        raise CheckpointError(
            f"'{path}' is a pickle, which can run code when it is opened. "
            "Convert it to safetensors, or trust it with --allow-pickle."
        )
    opened = found.open(path)
    for name in opened.tensors:
        if len(name) > LONGEST_NAME or not name.isprintable() or any(map(_is_no_index, name.split("."))):
            raise CheckpointError(
                f"'{path}' holds a tensor that is called {json.dumps(name[:LONGEST_NAME])}, which is no name of a "
                "module. Do not use this file, or save it again."
            )
    return opened


def _is_no_index(part: str) -> bool:
    """A number that counts no layers or experts: too large, or in digits that are not 0 to 9."""
    return part.isdigit() and (len(part) > MOST_DIGITS or not part.isascii())
