"""Options that name what a command writes, and the command class that checks them all before it begins."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import click

from spectra.storage import destinations
from spectra.storage.destinations import FileKind

ADAPTER_CONFIG = "adapter_config.json"


class FileDestination(click.Path):
    """A file that the command writes."""

    def __init__(self, kind: FileKind) -> None:
        """Say what is written: only such a file is replaced."""
        super().__init__(path_type=Path)
        self.kind, self.name = kind, "file"

    def require(self, path: Path, *, force: bool, inputs: list[Path]) -> None:
        """Refuse what must not be written over."""
        destinations.require_file(path, self.kind, force=force, inputs=inputs)


class FolderDestination(click.Path):
    """A folder that the command writes as a whole, goes on in, or puts files of its own into."""

    def __init__(self, what: str, how: Literal["whole", "continued", "among others"]) -> None:
        """Say what the folder will hold and how it is written."""
        super().__init__(path_type=Path)
        self.what, self.how, self.name = what, how, "directory"

    def require(self, path: Path, *, force: bool, inputs: list[Path]) -> None:
        """Refuse what must not be written over."""
        if self.how == "whole":
            destinations.require_folder(path, self.what, force=force, inputs=inputs)
        elif self.how == "continued":
            destinations.require_continued(path, self.what, inputs=inputs)
        else:
            destinations.require_writable(path)


class WritingCommand(click.Command):
    """A command that checks every destination against its inputs before it does anything."""

    def invoke(self, ctx: click.Context) -> Any:
        """Check, then run."""
        given = [(param.type, ctx.params.get(str(param.name))) for param in self.params]
        wanted = [
            (kind, path)
            for kind, path in given
            if isinstance(kind, FileDestination | FolderDestination) and isinstance(path, Path)
        ]
        if wanted:
            destinations.require_apart([path for _, path in wanted])
            inputs = list(_inputs(self, ctx))
            for kind, path in wanted:
                kind.require(path, force=bool(ctx.params.get("force")), inputs=inputs)
        return super().invoke(ctx)


def _inputs(command: click.Command, ctx: click.Context) -> Iterator[Path]:
    """Everything on this machine that the arguments of a command name, with the bases that its adapters name."""
    for param in command.params:
        if isinstance(param.type, FileDestination | FolderDestination | click.Choice):
            continue
        for word in _words(ctx.params.get(str(param.name))):
            # A held-out task may be a file with a measure behind a colon.
            for path in (Path(word), Path(word.rpartition(":")[0])):
                if word and str(path) != "." and _exists(path):
                    yield path
                    yield from _bases(path)


def _words(value: object) -> Iterator[str]:
    if isinstance(value, str | Path):
        yield str(value)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _words(part)


def _bases(path: Path) -> Iterator[Path]:
    """The local bases that the adapters in a folder name."""
    from spectra.errors import SpectraError
    from spectra.storage.json_file import read_object

    if not path.is_dir():
        return
    for config in (path / ADAPTER_CONFIG, *path.glob(f"*/{ADAPTER_CONFIG}")):
        try:
            base = read_object(config).get("base_model_name_or_path") if config.is_file() else None
        except SpectraError:
            continue  # reading the adapter says what is wrong with it
        if isinstance(base, str) and base and _exists(Path(base)):
            yield Path(base)


def _exists(path: Path) -> bool:
    try:
        return path.expanduser().exists()
    except (OSError, ValueError):  # a text too long for a name, or with a null byte, is none
        return False
