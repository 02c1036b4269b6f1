"""The held-out part of a sweep: the base's scores, measured once, and each tuned model's against them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from spectra.errors import RunError
from spectra.forgetting import HeldOut, Scores, forgetting
from spectra.forgetting.loaded import measure_loaded
from spectra.models import LoadedModel, load_base
from spectra.runs import Run, TrialFolder
from spectra.runs.schema import FORGETTING
from spectra.sweep.spec.specification import Specification
from spectra.sweep.trial.inputs import open_held_out_tasks, require_unchanged

BATCH_SIZE = 16


@dataclass
class HeldOutTasks:
    """The held-out tasks of one sweep; their data and the base's scores are loaded once and kept."""

    run: Run
    specification: Specification
    device: str

    @cached_property
    def tasks(self) -> tuple[HeldOut, ...]:
        """The tasks, with their data, as the run folder names them.

        Raises:
            RunError: If one is no longer what it was when the sweep began.
        """
        known = {one["name"]: one["content"] for one in self.run.inputs["heldout"]}
        opened = [one.task for one in open_held_out_tasks(self.specification, self.run.inputs["heldout"])]
        for task in opened:
            require_unchanged(f"held-out task '{task.name}'", known.get(task.name, ""), task.identity)
        return tuple(opened)

    def measure_base(self, base: LoadedModel) -> None:
        """Score the untouched base on every task that has no score yet. Call it while holding the lock of base/."""
        missing = [task for task in self.tasks if self.run.base_result(task.name) is None]
        for task, scores in zip(missing, self._scores(base, missing), strict=True):
            self.run.write_base_result(task.name, scores.to_dict())

    def base_scores(self, task: HeldOut) -> Scores:
        """The base's scores on a task.

        Raises:
            RunError: If it was not measured.
        """
        stored = self.run.base_result(task.name)
        if stored is None:
            raise RunError(f"The base was not measured on '{task.name}'. Run the sweep again.")
        return Scores.from_dict(stored)

    def missing(self, folder: TrialFolder) -> tuple[HeldOut, ...]:
        """The tasks that a trial was not measured on yet."""
        measured = folder.measured
        return tuple(task for task in self.tasks if task.name not in measured)

    def measure_tuned(
        self, tuned: LoadedModel, tasks: Sequence[HeldOut]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Forgetting of a tuned model.

        Returns:
            Rows of the forgetting table, and one row per example.
        """
        rows, examples = [], []
        for task, scores in zip(tasks, self._scores(tuned, tasks), strict=True):
            rows.append(_row(task, self.base_scores(task), scores))
            examples += list(_examples(scores))
        return rows, examples

    def _scores(self, loaded: LoadedModel, tasks: Sequence[HeldOut]) -> list[Scores]:
        """Scores in the order of the tasks; a pseudo-loss is taken under the base's masked-LM head."""

        @cache
        def pretrained() -> Any:
            return load_base(self.specification.base, "masked-lm", device=self.device).model

        return measure_loaded(loaded, tasks, pretrained=pretrained, batch_size=BATCH_SIZE, device=self.device)


def _row(task: HeldOut, base: Scores, tuned: Scores) -> dict[str, Any]:
    result = forgetting(base, tuned).to_dict()
    known = {column.name for column in FORGETTING}
    return {"heldout": task.name, **{name: value for name, value in result.items() if name in known}}


def _examples(scores: Scores) -> Iterator[dict[str, Any]]:
    for position, (loss, weight) in enumerate(zip(scores.values, scores.weights, strict=True)):
        yield {"heldout": scores.task, "example": position, "loss": float(loss), "weight": float(weight)}
