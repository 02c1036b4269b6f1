"""One entry for every kind of task: an asset's, a local file's, the hub's, or one registered from Python."""

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from spectra.data.asset_tasks import ASSET_TASKS, load_asset_task
from spectra.data.hub import load_hub_task
from spectra.data.local_files import load_local_task
from spectra.data.readers import READERS
from spectra.data.rows import Counted, Row
from spectra.data.spec import TaskKind, TaskSpec
from spectra.data.splits import without, without_duplicates
from spectra.data.task import TaskData, assemble
from spectra.errors import DataError

REGISTERED: dict[str, Callable[[], TaskData]] = {}


def asset_task_names() -> tuple[str, ...]:
    """Names of the tasks that need no file of the user's."""
    return tuple(ASSET_TASKS)


def register_task(name: str, load: Callable[[], TaskData]) -> None:
    """Make a task known by a name, for this process: sweeps, held-out tasks and commands then take the name.

    Args:
        name: A new name; no file's.
        load: Makes the task, for example with `task_from_rows`; called whenever the task is loaded.

    Raises:
        DataError: If the name is taken.
    """
    if name in ASSET_TASKS or name in REGISTERED or not name:
        raise DataError(f"There is a task '{name}' already. Choose another name.")
    REGISTERED[name] = load


def task_from_rows(
    name: str,
    kind: TaskKind,
    *,
    train: list[Row],
    validation: list[Row],
    test: list[Row],
    label_names: tuple[str, ...] = (),
) -> TaskData:
    """A task of rows that exist already: the columns and labels of `TaskData`, labels by their names.

    Rows are checked, and those that stand in two splits are removed from the earlier one, as for files.

    Raises:
        DataError: If a split is empty or a row is malformed.
    """
    from spectra.data.columns import checked_rows

    pair = "text_pair" if any("text_pair" in row for row in train) else None
    spec = TaskSpec(name, kind=kind, path="rows", text_pair=pair, label_names=label_names)

    def counted(split: str, rows: list[Row]) -> Counted:
        located = [(f"Row {number} of the {split} split", row) for number, row in enumerate(rows, start=1)]
        return without_duplicates(Counted.of(checked_rows(located, spec, kind)))

    last = counted("test", test)
    middle = without(counted("validation", validation), {"test": last})
    first = without(counted("train", train), {"test": last, "validation": middle})
    return assemble(name, kind, (first, middle, last), source="rows given in Python", label_names=label_names)


def load_task(
    spec: str | TaskSpec | Mapping[str, Any],
    *,
    held_out: bool = False,
    cache: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> TaskData:
    """Load a task: three disjoint, deduplicated splits, with the account of every row.

    Args:
        spec: Name of an asset task or a registered one, path of a local file, a `TaskSpec`, or a mapping with its
            fields.
        held_out: Nothing is trained or chosen on it: of a file that names no splits, all rows are test rows.
        cache: Cache folder for assets instead of the default one.
        progress: Called with one line per step of a fetch.

    Raises:
        DataError: If there is no such task, or its rows are malformed or too few.
        AssetError: If the asset of the task cannot be fetched.
    """
    if isinstance(spec, str):
        if spec in REGISTERED:
            return REGISTERED[spec]()
        if spec in ASSET_TASKS:
            return load_asset_task(spec, cache=cache, progress=progress)
    spec = task_spec(spec)
    return (load_local_task if spec.path is not None else load_hub_task)(spec, held_out=held_out)


def task_spec(spec: str | TaskSpec | Mapping[str, Any]) -> TaskSpec:
    """The specification of a task of the user's own.

    Raises:
        DataError: If a text is no path of a file that can be read, or a field has no meaning.
    """
    if isinstance(spec, TaskSpec):
        return spec
    if not isinstance(spec, str):
        return TaskSpec.from_mapping(spec)
    if Path(spec).suffix.lower() not in READERS:
        near = difflib.get_close_matches(spec, (*ASSET_TASKS, *REGISTERED), n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise DataError(
            f"There is no task {spec!r}. {hint}Name a file ({', '.join(READERS)}) "
            f"or one of {', '.join((*ASSET_TASKS, *REGISTERED))}."
        )
    return TaskSpec(name=Path(spec).stem, path=spec)
