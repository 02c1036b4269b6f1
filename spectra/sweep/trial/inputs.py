"""The contents of all that a sweep reads: recorded by the run folder, so that its rows speak of one base and one task.

A path says where something is and not what. What a folder was begun with is what every later call has to find.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from spectra.data import TaskData, load_task
from spectra.errors import RunError, first_five
from spectra.forgetting import HeldOut, open_held_out
from spectra.forgetting.held_out import with_own_names
from spectra.sweep.spec.specification import HeldOutSpecification, Specification
from spectra.training.adapt import METHODS
from spectra.training.prevention.replay import replayed_task


@dataclass(frozen=True, eq=False)
class HeldOutInput:
    """A held-out task as the specification has it, and what it holds.

    Attributes:
        given: The specification's entry.
        task: The opened task; its name is its own among those of the run.
    """

    given: Mapping[str, Any]
    task: HeldOut

    def described(self) -> dict[str, Any]:
        """What the run folder records."""
        return {"given": dict(self.given), "name": self.task.name, "content": self.task.identity}


@dataclass(frozen=True, eq=False)
class Inputs:
    """All that a sweep reads, opened.

    Attributes:
        base: Content of the base (`content_of`).
        tasks: The tasks that are trained on, or scored, in their order.
        held_out: The held-out tasks.
        checkpoints: Content of each checkpoint that exists already, by its reference.
        replayed: The tasks whose texts a method trains on beside the task.
    """

    base: str
    tasks: tuple[TaskData, ...]
    held_out: tuple[HeldOutInput, ...]
    checkpoints: Mapping[str, str]
    replayed: tuple[TaskData, ...] = ()

    def described(self) -> dict[str, Any]:
        """What the run folder records."""
        return {
            "base": self.base,
            "tasks": [{"name": task.name, "content": task.fingerprint} for task in self.tasks],
            "heldout": [one.described() for one in self.held_out],
            "checkpoints": dict(self.checkpoints),
            **({"replayed": {task.name: task.fingerprint for task in self.replayed}} if self.replayed else {}),
        }


def open_tasks(specification: Specification) -> tuple[TaskData, ...]:
    """The tasks that are trained on, in their order.

    Raises:
        DataError: If one cannot be opened.
    """
    return tuple(load_task(task) for task in specification.sequence)


def replayed_tasks(specification: Specification) -> tuple[TaskData, ...]:
    """The tasks whose texts some method trains on beside the task, each once.

    Raises:
        DataError: If one cannot be opened, or has no plain texts.
    """
    given = [
        replayed_task(method.arguments[name])
        for method in specification.methods
        for name in METHODS[method.method].text_arguments
        if isinstance(method.arguments.get(name), str | dict)  # the method itself refuses anything else
    ]
    return tuple({task.fingerprint: task for task in given}.values())


def replayed_problems(replayed: Sequence[TaskData], held_out: Sequence[HeldOut]) -> Iterator[str]:
    """A sentence for each task whose replayed texts are measured, too: such a replay would train on the test."""
    for task in replayed:
        for one in held_out:
            if one.data is None:
                continue
            if one.data.fingerprint == task.fingerprint:
                yield (
                    f"Task '{task.name}' is replayed, and held-out task '{one.name}' measures what is forgotten of it. "
                    "Replay texts from elsewhere."
                )
            elif both := len(set(task.train["text"]).intersection(one.test_texts())):
                yield (
                    f"{both} texts of held-out task '{one.name}' are among the replayed texts of task '{task.name}'. "
                    "Replay texts from elsewhere."
                )


def open_held_out_tasks(
    specification: Specification, known: Sequence[Mapping[str, Any]] = ()
) -> tuple[HeldOutInput, ...]:
    """The held-out tasks of a sweep, with names that are different for different tasks.

    Args:
        specification: The sweep.
        known: What the run folder recorded of them: a task that it knows keeps its name.

    Raises:
        DataError: If one cannot be opened, or one is named twice.
    """
    return named_apart([open_entry(one) for one in specification.heldout], known)


def open_entry(one: str | HeldOutSpecification) -> HeldOutInput:
    """One held-out task of a specification, by the name that it has alone.

    Raises:
        DataError: If it cannot be opened.
    """
    entry = _entry(one)
    return HeldOutInput(entry, open_held_out(entry["task"], **_own(entry)))


def named_apart(opened: Sequence[HeldOutInput], known: Sequence[Mapping[str, Any]] = ()) -> tuple[HeldOutInput, ...]:
    """Held-out tasks with names that are different for different tasks.

    Args:
        opened: The tasks.
        known: What the run folder recorded of them: a task that it knows keeps its name.

    Raises:
        DataError: If one is named twice.
    """
    apart = with_own_names([one.task for one in opened], [one.given for one in opened])
    return tuple(
        replace(one, task=replace(task, name=_remembered(one.given, known) or task.name))
        for one, task in zip(opened, apart, strict=True)
    )


def agreed(path: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, Any]:
    """What a run folder records after a further call: the contents it was begun with, and those that are new.

    Args:
        path: The folder, for messages.
        there: What it recorded (`Inputs.described`).
        here: What this call reads.

    Raises:
        RunError: If something is no longer what it was, or a held-out task is left out.
    """
    changed = ["the base"] if there["base"] != here["base"] else []
    changed += [
        f"task '{old['name']}'"
        for old, new in zip(there["tasks"], here["tasks"], strict=True)
        if old["content"] != new["content"]
    ]
    named = {one["name"]: one["content"] for one in here["heldout"]}
    changed += [
        f"held-out task '{one['name']}'"
        for one in there["heldout"]
        if one["name"] in named and named[one["name"]] != one["content"]
    ]
    changed += [
        f"checkpoint '{one}'"
        for one, content in here["checkpoints"].items()
        if there["checkpoints"].get(one, content) != content
    ]
    replayed = {"there": there.get("replayed", {}), "here": here.get("replayed", {})}
    changed += [
        f"replayed task '{name}'"
        for name, content in replayed["here"].items()
        if replayed["there"].get(name, content) != content
    ]
    if changed:
        raise RunError(
            f"'{path}' was begun with other contents: {first_five(changed)} changed since. "
            "Restore what it was, or choose another --out."
        )
    if absent := [one["name"] for one in there["heldout"] if one["name"] not in named]:
        raise RunError(
            f"'{path}' measures the held-out task {first_five(absent)}, which this call leaves out. "
            "Name it too, or choose another --out."
        )
    together = {**replayed["there"], **replayed["here"]}
    return {
        **here,
        "checkpoints": {**there["checkpoints"], **here["checkpoints"]},
        **({"replayed": together} if together else {}),
    }


def require_unchanged(what: str, there: str, here: str) -> None:
    """Refuse an input that changed while a sweep was running.

    Raises:
        RunError: If the contents differ.
    """
    if there != here:
        raise RunError(
            f"The content of {what} changed since the sweep began. Restore what it was, or choose another --out."
        )


def _entry(one: str | HeldOutSpecification) -> dict[str, Any]:
    """An entry as JSON holds it, so that a recorded one equals it."""
    entry = {"task": one} if isinstance(one, str) else {"task": one.task, **one.settings}
    return dict(json.loads(json.dumps(entry)))


def _own(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != "task"}


def _remembered(entry: Mapping[str, Any], known: Sequence[Mapping[str, Any]]) -> str | None:
    return next((str(one["name"]) for one in known if one["given"] == entry), None)
