"""What a sweep would fetch before it can begin: found out without a network, from what lies on this machine."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spectra.assets import asset, cache_folder, fetched, model_asset
from spectra.data.asset_tasks import ASSET_TASKS
from spectra.data.hub import is_cached
from spectra.sweep.spec.specification import Specification
from spectra.weights.formats.hub import locate_locally


@dataclass(frozen=True)
class Download:
    """Something that is not at hand.

    Attributes:
        name: What a person calls it, such as "base 'roberta-base'".
        size_bytes: Its size; None where only the hub knows it.
    """

    name: str
    size_bytes: int | None

    def __str__(self) -> str:
        """The name with the size in words."""
        size = "size unknown" if self.size_bytes is None else f"{self.size_bytes / 1e6:.3g} MB"
        return f"{self.name} ({size})"


def model_download(reference: str, role: str = "base") -> Download | None:
    """What would be fetched or converted for a model; None when it is at hand."""
    entry = model_asset(reference)
    if entry is None:
        path = Path(reference).expanduser()
        known = path.exists() or reference.startswith((".", "~", "/")) or locate_locally(reference) is not None
        return None if known else Download(f"{role} '{reference}'", None)
    folder = fetched(reference)
    if folder is None:
        return Download(f"{role} '{reference}'", entry.download_bytes)
    converted = cache_folder() / "models" / f"{folder.name}-float32"
    if any(folder.glob("*.gguf")) and not converted.is_dir():
        return Download(f"{role} '{reference}', to be converted from GGUF", 0)
    return None


def task_download(task: str | Mapping[str, Any]) -> Download | None:
    """What would be fetched for a task; None when it is at hand."""
    if isinstance(task, Mapping):
        if task.get("hub") is None:
            return None
        parts = (str(part) for part in (task["hub"], task.get("config")) if part is not None)
        return None if is_cached(str(task["hub"])) else Download(f"data set '{' '.join(parts)}'", None)
    if task not in ASSET_TASKS or fetched(ASSET_TASKS[task].asset) is not None:
        return None
    entry = asset(ASSET_TASKS[task].asset)
    return Download(f"asset '{entry.name}'", entry.download_bytes)


def downloads(specification: Specification) -> list[Download]:
    """Everything that a sweep needs and that is not at hand, each once."""
    return list({one.name: one for one in _missing(specification) if one is not None}.values())


def _missing(specification: Specification) -> Iterator[Download | None]:
    yield model_download(specification.base)
    tasks = specification.sequence if specification.methods else [specification.task]
    yield from (task_download(task) for task in tasks if task is not None)
    for held_out in specification.heldout:
        task = held_out if isinstance(held_out, str) else held_out.task
        yield task_download(task.partition(":")[0] if isinstance(task, str) else task)
    yield from (model_download(one.checkpoint, "checkpoint") for one in specification.checkpoints)
