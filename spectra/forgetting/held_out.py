"""A held-out task: which examples, which measure, and every setting that shapes the loss."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from datasets import Dataset

from spectra.data import Cut, TaskData, TaskSpec, load_task
from spectra.errors import DataError, first_five
from spectra.forgetting.catalogue import HELD_OUT_MEASURES, default_measure
from spectra.records.naming import told_apart
from spectra.registry import code_digest
from spectra.storage.keyed import digest

PROBES = ("linear-probe", "nearest-neighbour")
SETTINGS = {
    *("name", "limit", "fit_limit", "max_length", "neighbours", "instruction", "max_new_tokens", "lm_eval_metric"),
    "options",
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
        options: Settings of the measure's own, as its entry in `HELD_OUT_MEASURES` declares them.
    """

    name: str
    measure: str
    data: TaskData | None = None
    limit: int | None = None
    fit_limit: int | None = 2000
    max_length: int = 256
    neighbours: int = 1
    instruction: str = "\nAnswer:"
    max_new_tokens: int = 64
    lm_eval_task: str = ""
    lm_eval_metric: str = "acc"
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """SHA-256 of everything that decides a score but the model: the name decides nothing."""
        values = {
            one.name: getattr(self, one.name) for one in fields(self) if one.name not in ("name", "data", "options")
        }
        values |= {"options": dict(self.options)} if self.options else {}
        if self.measure in HELD_OUT_MEASURES and not HELD_OUT_MEASURES.is_own(self.measure):
            values["code"] = code_digest(HELD_OUT_MEASURES[self.measure].measure)  # a plugin's code has no version
        values["data"] = self.data.fingerprint if self.data is not None else None
        return digest(values)

    def task_data(self) -> TaskData:
        """The task's data.

        Raises:
            DataError: If it has none.
        """
        if self.data is None:
            raise DataError(f"Held-out task '{self.name}' has no data of its own. Measure it with lm-eval.")
        return self.data

    def warnings(self, cut: Cut) -> tuple[str, ...]:
        """Sentences about rows that were left out and texts that were cut, where they are more than a hundredth."""
        lost = self.data.warnings if self.data is not None else []
        return (*lost, *cut.warnings(f"'{self.name}'"))

    def test_rows(self) -> Dataset:
        """The examples to score."""
        return _front(self.task_data().test, self.limit)

    def fit_rows(self) -> Dataset:
        """The examples that a probe is fitted on."""
        return _front(self.task_data().train, self.fit_limit)

    def test_texts(self) -> list[str]:
        """The texts to score: the input of an example, whatever the kind of task."""
        return self.texts(self.test_rows())

    def texts(self, rows: Dataset) -> list[str]:
        """The inputs of some rows; the two texts of a pair stand on two lines."""
        texts = list(rows["source" if self.task_data().kind == "seq2seq" else "text"])
        if "text_pair" not in rows.column_names:
            return texts
        return [f"{text}\n{second}" for text, second in zip(texts, rows["text_pair"], strict=True)]

    def require_kind(self, *kinds: str) -> TaskData:
        """The task's data, if it is of a kind that the measure can score.

        Raises:
            DataError: Naming the measures that fit.
        """
        data = self.task_data()
        if data.kind not in kinds:
            raise DataError(
                f"Task '{data.name}' is of kind {data.kind}, which '{self.measure}' cannot score "
                f"(it needs {' or '.join(kinds)}). Use '{data.name}:{default_measure(data.kind) or 'lm-loss'}'."
            )
        return data


def with_own_names(tasks: Sequence[HeldOut], given: Sequence[Mapping[str, Any]]) -> list[HeldOut]:
    """Held-out tasks with names that are different for different tasks.

    Args:
        tasks: The opened tasks.
        given: Of each what it was opened from: `task`, a text or fields, and settings.

    Raises:
        DataError: If one is named twice.
    """
    contents = [one.identity for one in tasks]
    if twice := [one.name for place, one in enumerate(tasks) if contents.index(one.identity) < place]:
        raise DataError(f"Held-out task {first_five(twice)} is named twice with the same settings. Name it once.")
    names = told_apart(
        {place: one.name for place, one in enumerate(tasks)},
        {place: _facts(entry) for place, entry in enumerate(given)},
    )
    return [replace(one, name=names[place]) for place, one in enumerate(tasks)]


def _facts(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What tells an entry from another one of the same name."""
    task = entry["task"]
    own = {name: value for name, value in entry.items() if name != "task"}
    return {**(task if isinstance(task, Mapping) else {"path": task}), **own}


def open_held_out(
    spec: str | Mapping[str, Any] | TaskSpec,
    *,
    whole: bool = True,
    progress: Callable[[str], None] | None = None,
    cache: Path | None = None,
    **settings: Any,
) -> HeldOut:
    """Load the data of a held-out task.

    A file that names no splits is scored as a whole, unless a probe has to be fitted on a part of it.

    Args:
        spec: "TASK", "TASK:MEASURE" (TASK as for `load_task`), "lm-eval:TASK", or a task specification, whose measure
            is then among the settings.
        whole: Whether all rows of such a file are test rows; False sets validation rows aside, for a choice.
        progress: Called with one line per step of a fetch.
        cache: Cache folder for assets.
        **settings: Any attribute of `HeldOut` but the data.

    Raises:
        DataError: If the task or the measure does not exist.
    """
    task: str | Mapping[str, Any] | TaskSpec = spec
    if isinstance(spec, Mapping):
        task, own = _parts(spec)
        settings = {**settings, **own}
        spec = task if isinstance(task, str) else spec
    measure: str | None = settings.pop("measure", None)
    if isinstance(spec, str) and spec.startswith("lm-eval:"):
        return HeldOut(name=spec, measure="lm-eval", lm_eval_task=spec.removeprefix("lm-eval:"), **settings)
    if isinstance(spec, str) and ":" in spec[2:]:  # a drive letter is no task
        task, _, measure = spec.rpartition(":")
    if unknown := sorted(set(settings) - SETTINGS):
        raise DataError(
            f"A held-out task has no setting {first_five(unknown)}. "
            f"Use only: task, measure, {', '.join(sorted(SETTINGS))}."
        )
    data = load_task(task, held_out=whole and measure not in PROBES, cache=cache, progress=progress)
    chosen = measure or _default(data)
    if chosen in PROBES and not len(data.train):  # the kind decided the measure
        data = load_task(task, cache=cache, progress=progress)
    if chosen not in HELD_OUT_MEASURES or not HELD_OUT_MEASURES[chosen].needs_data:
        near = difflib.get_close_matches(chosen, HELD_OUT_MEASURES, n=1, cutoff=0.4)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise DataError(f"There is no measure {chosen!r}. {hint}Use one of {', '.join(HELD_OUT_MEASURES)}.")
    declared, given = HELD_OUT_MEASURES[chosen].options, settings.pop("options", None) or {}
    if strange := sorted(set(given) - set(declared)):
        known = f"It has {', '.join(declared)}" if declared else "It has none"
        raise DataError(f"The measure '{chosen}' has no option {first_five(strange)}. {known}.")
    options = {**declared, **given}
    name = settings.pop("name", f"{data.name}:{chosen}")
    return HeldOut(name=name, measure=chosen, data=data, options=options, **settings)


def _parts(fields: Mapping[str, Any]) -> tuple[str | Mapping[str, Any], dict[str, Any]]:
    """A task and its settings, from `{task: ..., limit: 60}` or from the task's own fields among the settings."""
    if "task" in fields:
        return fields["task"], {name: value for name, value in fields.items() if name != "task"}
    settings = {name: value for name, value in fields.items() if name in (SETTINGS | {"measure"}) - {"name"}}
    return {name: value for name, value in fields.items() if name not in settings}, settings


def _default(data: TaskData) -> str:
    measure = default_measure(data.kind)
    if measure is None:
        raise DataError(
            f"Task '{data.name}' is of kind {data.kind}, which has no held-out measure of its own. "
            f"Measure its texts with '{data.name}:lm-loss' or '{data.name}:pseudo-loss'."
        )
    return measure


def _front(rows: Dataset, limit: int | None) -> Dataset:
    return rows if limit is None or limit >= len(rows) else rows.select(range(limit))
