"""A held-out task: which examples, which measure, and every setting that shapes the loss."""

import difflib
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from datasets import Dataset

from spectra.data import TaskData, TaskSpec, load_task
from spectra.errors import DataError

MeasureName = Literal[
    "linear-probe",
    "nearest-neighbour",
    "lm-loss",
    "bits-per-byte",
    "pseudo-loss",
    "label-likelihood",
    "rouge-l",
    "lm-eval",
]
DEFAULT_MEASURE: Mapping[str, MeasureName] = {
    "classification": "linear-probe",
    "causal-lm": "lm-loss",
    "seq2seq": "rouge-l",
}


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A task that the model was not tuned on, and how to score it.

    Attributes:
        name: What reports call it: task and measure.
        measure: Name of the measure.
        data: The task; None for an lm-evaluation-harness task.
        limit: Test examples to score, from the front of the test split (whose order is random); None scores all.
        fit_limit: Training examples that a probe is fitted on, likewise.
        max_length: Tokens that a text is cut to.
        neighbours: k of the nearest-neighbour probe.
        instruction: Text between an input and the answer, for label likelihood and generation by causal models.
        max_new_tokens: Length that a generation is cut to.
        lm_eval_task: Name of the lm-evaluation-harness task.
        lm_eval_metric: Name of its per-example metric.
    """

    name: str
    measure: MeasureName
    data: TaskData | None = None
    limit: int | None = None
    fit_limit: int | None = 2000
    max_length: int = 256
    neighbours: int = 1
    instruction: str = "\nAnswer:"
    max_new_tokens: int = 64
    lm_eval_task: str = ""
    lm_eval_metric: str = "acc"

    @property
    def identity(self) -> str:
        """SHA-256 of everything that decides a score but the model: the name decides nothing."""
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in ("name", "data")}
        values["data"] = self.data.fingerprint if self.data is not None else None
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def task_data(self) -> TaskData:
        """The task's data.

        Raises:
            DataError: If it has none.
        """
        if self.data is None:
            raise DataError(f"Held-out task '{self.name}' has no data of its own. Measure it with lm-eval.")
        return self.data

    def test_rows(self) -> Dataset:
        """The examples to score."""
        return _front(self.task_data().test, self.limit)

    def fit_rows(self) -> Dataset:
        """The examples that a probe is fitted on."""
        return _front(self.task_data().train, self.fit_limit)

    def test_texts(self) -> list[str]:
        """The texts to score: the input of an example, whatever the kind of task."""
        return list(self.test_rows()["source" if self.task_data().kind == "seq2seq" else "text"])

    def require_kind(self, *kinds: str) -> TaskData:
        """The task's data, if it is of a kind that the measure can score.

        Raises:
            DataError: Naming the measures that fit.
        """
        data = self.task_data()
        if data.kind not in kinds:
            raise DataError(
                f"Task '{data.name}' is of kind {data.kind}, which '{self.measure}' cannot score "
                f"(it needs {' or '.join(kinds)}). Use '{data.name}:{DEFAULT_MEASURE[data.kind]}'."
            )
        return data


def open_held_out(
    spec: str | Mapping[str, Any] | TaskSpec,
    *,
    progress: Callable[[str], None] | None = None,
    cache: Path | None = None,
    **settings: Any,
) -> HeldOut:
    """Load the data of a held-out task.

    Args:
        spec: "TASK", "TASK:MEASURE" (TASK as for `load_task`), "lm-eval:TASK", or a task specification, whose measure
            is then among the settings.
        progress: Called with one line per step of a fetch.
        cache: Cache folder for assets.
        **settings: Any attribute of `HeldOut` but the data.

    Raises:
        DataError: If the task or the measure does not exist.
    """
    measure: str | None = settings.pop("measure", None)
    task: str | Mapping[str, Any] | TaskSpec = spec
    if isinstance(spec, str) and spec.startswith("lm-eval:"):
        return HeldOut(name=spec, measure="lm-eval", lm_eval_task=spec.removeprefix("lm-eval:"), **settings)
    if isinstance(spec, str) and ":" in spec[2:]:  # a drive letter is no task
        task, _, measure = spec.rpartition(":")
    data = load_task(task, cache=cache, progress=progress)
    chosen = measure or DEFAULT_MEASURE[data.kind]
    if chosen not in get_args(MeasureName) or chosen == "lm-eval":
        near = difflib.get_close_matches(chosen, get_args(MeasureName), n=1, cutoff=0.4)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise DataError(f"There is no measure {chosen!r}. {hint}Use one of {', '.join(get_args(MeasureName))}.")
    name = settings.pop("name", f"{data.name}:{chosen}")
    return HeldOut(name=name, measure=chosen, data=data, **settings)  # type: ignore[arg-type] # checked just above


def _front(rows: Dataset, limit: int | None) -> Dataset:
    return rows if limit is None or limit >= len(rows) else rows.select(range(limit))
