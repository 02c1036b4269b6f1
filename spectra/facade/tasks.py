"""Tasks as a caller may name them: by a text, by the fields of a specification, or opened already."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from spectra.data import load_task
from spectra.forgetting import HeldOut, open_held_out
from spectra.forgetting.held_out import with_own_names
from spectra.interventions import OwnTask

Say = Callable[[str], None]
TaskLike: TypeAlias = str | Mapping[str, Any]
HeldOutLike: TypeAlias = TaskLike | HeldOut


def held_out_tasks(
    tasks: HeldOutLike | Sequence[HeldOutLike], *, whole: bool = True, say: Say | None = None, **limits: Any
) -> list[HeldOut]:
    """The held-out tasks with their data, under names that are different for different tasks.

    Args:
        tasks: One or several: "TASK[:MEASURE]", fields as in a sweep's specification, or an opened task.
        whole: False where a choice needs validation rows.
        say: Called with one line per step of a fetch.
        **limits: `limit`, `fit_limit`, `max_length`, `instruction` of the tasks that are opened here; None is left out.

    Raises:
        DataError: If one cannot be opened, or one is named twice.
    """
    several = [tasks] if isinstance(tasks, str | Mapping | HeldOut) else tasks
    settings = {name: value for name, value in limits.items() if value is not None}
    opened = [
        one if isinstance(one, HeldOut) else open_held_out(one, whole=whole, progress=say, **settings)
        for one in several
    ]
    return with_own_names(opened, [_given(one) for one in several])


def _given(one: HeldOutLike) -> Mapping[str, Any]:
    if isinstance(one, HeldOut):
        return {"task": {}}
    return one if isinstance(one, Mapping) and "task" in one else {"task": one}


def own_task(task: TaskLike | OwnTask, *, limit: int | None, max_length: int, say: Say | None = None) -> OwnTask:
    """The task that a checkpoint was tuned on, with its data."""
    if isinstance(task, OwnTask):
        return task
    return OwnTask(load_task(task, progress=say), limit=limit, max_length=max_length)
