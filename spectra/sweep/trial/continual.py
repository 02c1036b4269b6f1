"""A sequence of tasks: one is learnt after the other, and after each every task so far is measured again.

W_0 is the base. Task t is learnt from W_{t-1} (merged) or from W_0 (kept apart), with a fresh adapter and a fresh
head, and

    W_t = W_{t-1} + delta_W_t        so that        W_t = W_0 + sum_{s<=t} delta_W_s

in every weight of the body. Intruders of W_t are counted against W_0 and against W_{t-1}. A task is scored on its
validation split, with the head that was trained with it, on the body as it is now.

Source: Shuttleworth et al., arXiv:2410.21228, the experiment on continual learning.
    Difference: the paper trains new heads for testing; here a task keeps the head it was learnt with.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, cast

from safetensors.torch import load_file

from spectra.data import TaskData
from spectra.engine.cache import FactorCache
from spectra.models import LoadedModel, ModelKind, load_base, name_outputs, resolve_model
from spectra.records.totals import totals
from spectra.runs import TrialFolder
from spectra.scanning.scan import scan_checkpoints
from spectra.scanning.settings import ScanSettings
from spectra.storage import atomic
from spectra.sweep.spec.specification import Specification
from spectra.sweep.trial.states import save_head, save_state
from spectra.training.driver import Evaluation, evaluate
from spectra.training.settings import TrainingSettings

if TYPE_CHECKING:
    import pandas as pd

Train = Callable[[TrainingSettings, TaskData, TrialFolder], Path]  # trains, or goes on, or takes what was trained
SUMMED = ("steps", "train_seconds")
LARGEST = ("trainable_parameters", "optimiser_bytes", "peak_memory_bytes")


@dataclass(frozen=True, eq=False)
class SequenceTraining:
    """One trial that learns several tasks; each step is a folder of its own, so that it resumes where it was stopped.

    Attributes:
        settings: Of the trial; the base is replaced step by step.
        specification: The sweep.
        tasks: The tasks in their order, with their data.
        folder: The trial's folder.
        kind: Which head the tasks need.
        device: Where models are measured.
    """

    settings: TrainingSettings
    specification: Specification
    tasks: tuple[TaskData, ...]
    folder: TrialFolder
    kind: ModelKind
    device: str

    def learn(self, train: Train) -> Path:
        """Learn every task that is not learnt yet.

        Returns:
            The weights after the last task: a full checkpoint, the trial's own.
        """
        if self.folder.weights is None and self.folder.step(len(self.tasks)).is_finished:
            self.folder.forget_steps()  # the weights were dropped: there is nothing to go on from
        for number in range(1, len(self.tasks) + 1):
            if not self.folder.step(number).is_finished:
                self._learn(number, train)
        self._together()
        return self.folder.checkpoint

    def scores(self, split: str, upto: int | None = None) -> list[Evaluation]:
        """Every task so far on the weights after task `upto` (the last one, if omitted)."""
        upto = upto or len(self.tasks)
        return [self._score(number, split, upto) for number in range(1, upto + 1)]

    def _learn(self, number: int, train: Train) -> None:
        step = self.folder.step(number)
        step.clear_partials()
        before = self._state(number - 1)
        start = before if self.specification.merges else self._state(0)
        weights = train(replace(self.settings, base=start), self.tasks[number - 1], step)
        with atomic.replacing(Path(self._state(number))) as partial:
            partial.mkdir()
            tuned = save_state(weights, start, before, self._state(0), self.kind, partial)
        save_head(tuned, step.head)
        step.write_rows("continual", self._rows(number, before))
        step.finish()
        if self.specification.keep != "all":
            step.drop_weights(adapters=self.specification.keep == "none")
            if number > 1:
                atomic.remove(Path(before))

    def _rows(self, number: int, before: str) -> Iterator[dict[str, Any]]:
        counted: dict[str, float] = {}
        for name, reference in (("base", self._state(0)), ("previous", before)):
            settings = ScanSettings(k=self.specification.k, epsilon=self.specification.epsilon, dense_norms=True)
            cache = FactorCache() if name == "base" else None
            [scan] = scan_checkpoints([self._state(number)], reference, settings, cache=cache)
            whole = totals(scan.matrices)
            counted |= {f"count_{name}": whole["count"], f"energy_share_{name}": whole["energy_share"]}
            counted |= {f"update_{name}": whole["update_frobenius"], "matrices": whole["matrices"]}
        for learnt, score in enumerate(self.scores("validation", number), start=1):
            first = score.score if learnt == number else self._first_score(learnt)
            yield {
                "step": number,
                "learnt": self.tasks[number - 1].name,
                "task": self.tasks[learnt - 1].name,
                "task_step": learnt,
                "metric": score.metric,
                "score": score.score,
                "examples": score.examples,
                "lost": first - score.score,
                **counted,
            }

    def _first_score(self, number: int) -> float:
        """A task's score right after it was learnt."""
        rows = cast("pd.DataFrame", self.folder.step(number).rows("continual"))  # the step is done
        return float(rows.loc[rows["task_step"] == number, "score"].iloc[0])

    def _score(self, number: int, split: str, upto: int) -> Evaluation:
        task = self.tasks[number - 1]
        loaded = self._load(self._state(upto), task)
        head = load_file(self.folder.step(number).head, device=self.device)
        loaded.model.load_state_dict(head, strict=False)
        return evaluate(loaded.model, loaded.tokenizer, task, split, self.specification)

    def _load(self, state: str, task: TaskData) -> LoadedModel:
        loaded = load_base(state, self.kind, num_labels=task.outputs, device=self.device)
        name_outputs(loaded.model.config, task.label_names)  # the head is the task's own
        return loaded

    def _state(self, number: int) -> str:
        """Where the weights after a task are; the base before the first."""
        if number == 0:
            return resolve_model(self.specification.base)
        return str(self.folder.checkpoint if number == len(self.tasks) else self.folder.step(number).merged)

    def _together(self) -> None:
        """The rows and figures of all steps, as those of the trial."""
        steps = [self.folder.step(number) for number in range(1, len(self.tasks) + 1)]
        metrics = [step.metrics or {} for step in steps]
        done = 0
        history: list[dict[str, Any]] = []
        for step, figures in zip(steps, metrics, strict=True):
            rows = step.rows("history")
            history += [] if rows is None else _records(rows.assign(step=rows["step"] + done))
            done += int(figures["steps"])
        self.folder.write_rows("history", history)
        tables = [step.rows("continual") for step in steps]
        self.folder.write_rows("continual", [row for table in tables if table is not None for row in _records(table)])
        self.folder.write_metrics(
            {
                **metrics[-1],
                **{name: sum(one[name] for one in metrics) for name in SUMMED},
                **{name: max(one[name] for one in metrics) for name in LARGEST},
                # Of each task right after it was learnt: the choice of a learning rate looks at no forgetting.
                "validation_score": fmean(one["validation_score"] for one in metrics),
                **(self.folder.metrics or {}),
            }
        )


def mean_score(scores: list[Evaluation]) -> Evaluation:
    """The mean over tasks, and all their examples."""
    return Evaluation(scores[0].metric, fmean(one.score for one in scores), sum(one.examples for one in scores))


def _records(table: "pd.DataFrame") -> list[dict[str, Any]]:
    """The rows of a table, whose columns have names."""
    return cast("list[dict[str, Any]]", table.to_dict("records"))
