"""Tasks: texts with labels, plain texts or pairs, deduplicated and split the same way on every machine."""

from spectra.data.account import Cut, SplitAccount, cut_of
from spectra.data.load import asset_task_names, load_task, register_task, task_from_rows, task_spec
from spectra.data.spec import TaskKind, TaskSpec
from spectra.data.task import TaskData

__all__ = [
    "Cut",
    "SplitAccount",
    "TaskData",
    "TaskKind",
    "TaskSpec",
    "asset_task_names",
    "cut_of",
    "load_task",
    "register_task",
    "task_from_rows",
    "task_spec",
]
