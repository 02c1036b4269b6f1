"""Tasks: texts with labels, plain texts or pairs, deduplicated and split the same way on every machine."""

from spectra.data.load import asset_task_names, load_task
from spectra.data.task import TaskData, TaskKind, TaskSpec

__all__ = ["TaskData", "TaskKind", "TaskSpec", "asset_task_names", "load_task"]
