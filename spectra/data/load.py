"""One entry for every kind of task: an asset's, a local file's, the hub's."""

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from spectra.data.asset_tasks import ASSET_TASKS, load_asset_task
from spectra.data.hub import load_hub_task
from spectra.data.local_files import READERS, load_local_task
from spectra.data.task import TaskData, TaskSpec
from spectra.errors import DataError


def asset_task_names() -> tuple[str, ...]:
    """Names of the tasks that need no file of the user's."""
    return tuple(ASSET_TASKS)


def load_task(
    spec: str | TaskSpec | Mapping[str, Any],
    *,
    cache: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> TaskData:
    """Load a task: three disjoint, deduplicated splits.

    Args:
        spec: Name of an asset task, path of a local file, a `TaskSpec`, or a mapping with its fields.
        cache: Cache folder for assets instead of the default one.
        progress: Called with one line per step of a fetch.

    Raises:
        DataError: If there is no such task, or its rows are malformed or too few.
        AssetError: If the asset of the task cannot be fetched.
    """
    if isinstance(spec, str):
        if spec in ASSET_TASKS:
            return load_asset_task(spec, cache=cache, progress=progress)
        if Path(spec).suffix not in READERS:
            near = difflib.get_close_matches(spec, ASSET_TASKS, n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise DataError(
                f"There is no task {spec!r}. {hint}Name a file ({', '.join(READERS)}) "
                f"or one of {', '.join(ASSET_TASKS)}."
            )
        spec = TaskSpec(name=Path(spec).stem, path=spec)
    elif not isinstance(spec, TaskSpec):
        spec = TaskSpec.from_mapping(spec)
    return load_local_task(spec) if spec.path is not None else load_hub_task(spec)
