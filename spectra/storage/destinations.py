"""Where a command may write: one rule for all of them, checked before anything is computed.

Only a file that the same command would write, or a folder that carries this package's own marker and nothing that
somebody else put there, is ever replaced, and only with --force. Never replaced are the inputs of a command, the
folders above them, the working folder, the home folder and the root. Symbolic links are followed before it is judged.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from spectra.errors import DestinationError, first_five
from spectra.storage import atomic
from spectra.storage.json_file import read_object
from spectra.storage.tables import is_own_parquet

MARKER = ".spectra.json"
RUN_MARKER = "sweep.json"
HEAD_BYTES = 100_000


@dataclass(frozen=True)
class FileKind:
    """A kind of file that commands write.

    Attributes:
        word: What it is called in messages.
        is_one: Whether a file is of this kind and was written by this package.
    """

    word: str
    is_one: Callable[[Path], bool]


def _holds(*marks: bytes) -> Callable[[Path], bool]:
    def look(path: Path) -> bool:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
            stream.seek(max(0, path.stat().st_size - HEAD_BYTES))
            tail = stream.read(HEAD_BYTES)
        return any(mark in head or mark in tail for mark in marks)

    return look


def _object_with(*keys: str) -> Callable[[Path], bool]:
    def look(path: Path) -> bool:
        try:
            return set(keys) <= set(read_object(path, error=DestinationError))
        except DestinationError:
            return False

    return look


REPORT = FileKind(
    "an HTML report of spectra", _holds(b'<meta name="generator" content="spectra"', " – spectra</title>".encode())
)
FIGURE = FileKind("a figure of spectra", _holds(b"spectra figures"))
TABLE = FileKind("a table of spectra", is_own_parquet)
COMPARISON = FileKind("a comparison of spectra", _object_with("checkpoints", "overlaps", "versions"))
JUNIT = FileKind("a JUnit file of spectra", _holds(b'<testsuites name="spectra"'))
LORA_CONFIG = FileKind("a LoraConfig of spectra", _object_with("r", "lora_alpha", "rank_pattern", "alpha_pattern"))


def require_file(path: Path, kind: FileKind, *, force: bool, inputs: Sequence[Path] = ()) -> Path:
    """The file that a destination stands for, once it is clear that it can be written and nothing is lost.

    Args:
        path: As the user named it.
        kind: What will be written.
        force: Whether a file of this kind may be replaced.
        inputs: What the command reads.

    Returns:
        The path with symbolic links followed.

    Raises:
        DestinationError: If something else stands there, or nothing can be written there.
    """
    target = _target(path, inputs)
    if target.is_dir():
        raise DestinationError(f"'{path}' is a folder. Name a file.")
    if target.exists():
        if not target.is_file():
            raise DestinationError(f"'{path}' is no regular file. Choose another name.")
        if not force:
            raise DestinationError(f"'{path}' exists. Add --force to replace it, or choose another name.")
        if not kind.is_one(target):
            raise DestinationError(
                f"'{path}' is not {kind.word}, and only such a file is replaced. Choose another name, or remove it "
                "yourself."
            )
    return target


def require_folder(path: Path, what: str, *, force: bool, inputs: Sequence[Path] = ()) -> Path:
    """The folder that a destination stands for, where it is written as a whole.

    Args:
        path: As the user named it.
        what: What the folder will hold, such as "adapter": only a folder of the same is replaced.
        force: Whether it may be replaced.
        inputs: What the command reads.

    Returns:
        The path with symbolic links followed.

    Raises:
        DestinationError: If something else stands there, or nothing can be written there.
    """
    target = _target(path, inputs)
    if not target.exists() or _is_empty(target, path):
        return target
    if not force:
        raise DestinationError(f"'{path}' exists. Add --force to replace it, or choose another folder.")
    files = _marked(target, what).get("files")
    if not isinstance(files, list):
        raise DestinationError(
            f"'{path}' is no {what} that spectra wrote, and nothing else is replaced. Choose another folder, or remove "
            "it yourself."
        )
    if foreign := sorted({str(entry.relative_to(target)) for entry in _files(target)} - set(map(str, files))):
        raise DestinationError(
            f"'{path}' holds what spectra did not write ({first_five(foreign)}) and is not replaced. Choose another "
            "folder, or move these files."
        )
    return target


def require_continued(path: Path, what: str, *, inputs: Sequence[Path] = ()) -> Path:
    """The folder that a command goes on in, file by file: absent, empty, or one that it began earlier.

    Raises:
        DestinationError: If it holds anything else, or nothing can be written there.
    """
    target = _target(path, inputs)
    if target.exists() and not _is_begun(target, path) and _marked(target, what).get("what") != what:
        raise DestinationError(
            f"'{path}' holds other files and was not begun by `spectra {what}`. Choose another folder."
        )
    return target


def require_writable(path: Path) -> None:
    """Refuse a folder in which no file can be put; each file is judged by itself.

    Raises:
        DestinationError: If something else stands there, or nothing can be written there.
    """
    target = path.resolve()
    if target.exists() and not target.is_dir():
        raise DestinationError(f"'{path}' is a file. Name a folder.")
    _require_room(target / "file", path)


def mark(folder: Path, what: str) -> None:
    """Leave the marker by which `require_continued` knows a folder again."""
    if not (folder / MARKER).exists():
        atomic.write_json(folder / MARKER, {"what": what})


def adopt(folder: Path, name: str) -> None:
    """Count a file that another command puts into a whole folder among those that spectra wrote."""
    if (folder / MARKER).is_file():
        content = read_object(folder / MARKER, error=DestinationError, remedy="Choose another folder.")
        files = content.get("files")
        if isinstance(files, list) and name not in files:
            atomic.write_json(folder / MARKER, {**content, "files": [*files, name]})


@contextmanager
def whole_folder(path: Path, what: str, *, force: bool = False, inputs: Sequence[Path] = ()) -> Iterator[Path]:
    """Yield a temporary folder that takes the place of `path` at the end, marker included, or leaves no trace.

    Raises:
        DestinationError: As `require_folder`, before anything is written and again before the old folder goes.
    """
    target = require_folder(path, what, force=force, inputs=inputs)
    with atomic.replacing(target) as partial:
        partial.mkdir()
        yield partial
        files = [MARKER, *(str(entry.relative_to(partial)) for entry in _files(partial))]
        (partial / MARKER).write_text(json.dumps({"what": what, "files": files}, indent=2) + "\n", encoding="utf-8")
        require_folder(path, what, force=force, inputs=inputs)


def require_apart(paths: Sequence[Path]) -> None:
    """Refuse destinations of one command that are the same or inside each other.

    Raises:
        DestinationError: If two of them are.
    """
    for place, one in enumerate(paths):
        for other in paths[place + 1 :]:
            first, second = one.expanduser().resolve(), other.expanduser().resolve()
            if first == second or first in second.parents or second in first.parents:
                raise DestinationError(f"'{one}' and '{other}' would be written over each other. Name two places.")


def _target(path: Path, inputs: Sequence[Path]) -> Path:
    """The path with links followed, if it stands for nothing that must stay and can be written."""
    try:
        target = path.resolve()
    except (OSError, RuntimeError) as error:
        raise DestinationError(f"'{path}' cannot be followed ({error}). Choose another name.") from error
    for kept, word in _kept(inputs):
        if target == kept or target in kept.parents:
            raise DestinationError(f"'{path}' is or holds {word}. Choose another place.")
    _require_room(target, path)
    return target


def _require_room(target: Path, path: Path) -> None:
    """Refuse a place whose nearest folder takes no files."""
    above = target.parent
    while not above.exists():
        above = above.parent
    if not above.is_dir():
        raise DestinationError(f"'{path}' cannot be written: '{above}' is no folder. Choose another place.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise DestinationError(f"'{path}' cannot be written: '{above}' does not allow it. Choose another place.")


def _kept(inputs: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    yield Path.cwd().resolve(), "the working folder"
    yield Path.home().resolve(), "your home folder"
    for given in inputs:
        # A name that can be no path, such as one with a null byte, is said to be absent by whoever reads it.
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            yield given.expanduser().resolve(), f"'{given}', which the command reads"


def _is_empty(target: Path, path: Path) -> bool:
    if not target.is_dir():
        raise DestinationError(f"'{path}' is a file. Name a folder.")
    return not any(target.iterdir())


def _is_begun(target: Path, path: Path) -> bool:
    """True for a folder without files, but for the lock and the partial files of somebody who began with it."""
    return _is_empty(target, path) or all(
        entry.name == "lock" or atomic.is_partial(entry.name) for entry in target.iterdir()
    )


def _marked(folder: Path, what: str) -> dict[str, object]:
    """The content of a folder's marker, if it says that the folder is for this; interventions go into runs too."""
    if what in ("sweep", "intervene") and (folder / RUN_MARKER).is_file():
        return {"what": what}
    if not (folder / MARKER).is_file():
        return {}
    content = read_object(folder / MARKER, error=DestinationError, remedy="Choose another folder.")
    return content if content.get("what") == what else {}


def _files(folder: Path) -> Iterator[Path]:
    """Everything in a folder that is no folder, links included."""
    return (entry for entry in folder.rglob("*") if entry.is_symlink() or not entry.is_dir())
