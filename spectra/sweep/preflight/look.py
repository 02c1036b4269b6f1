"""Everything that can be known to fail, said before anything is trained; the same for a plan and for a run.

Every input is opened, every distinct kind of model is built once without weights, and every offender is named.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from spectra.data import TaskData, load_task
from spectra.errors import AssetError, DataError, ModelError, SpecificationError, SpectraError
from spectra.forgetting import HeldOut
from spectra.forgetting.catalogue import HELD_OUT_MEASURES, fitting
from spectra.models import (
    ModelKind,
    adapter_labels,
    content_of,
    is_adapter,
    load_config,
    load_kind,
    resolve_model,
    tuned_kind,
)
from spectra.models.base import load_tokenizer
from spectra.runs import Run
from spectra.sweep.preflight.estimate import Estimate, estimates
from spectra.sweep.preflight.sizes import Sizes, sizes
from spectra.sweep.preflight.texts import text_problems
from spectra.sweep.spec.plan import PlannedTrial
from spectra.sweep.spec.requirements import require_packages
from spectra.sweep.spec.specification import SHARED, HeldOutSpecification, Specification
from spectra.sweep.trial.inputs import (
    HeldOutInput,
    Inputs,
    agreed,
    named_apart,
    open_entry,
    replayed_problems,
    replayed_tasks,
)
from spectra.sweep.trial.row_account import account_rows
from spectra.sweep.trial.score import require_writer
from spectra.training.adapt import weights_kind
from spectra.training.families import FAMILIES, family_of, in_order_of
from spectra.training.settings import TrainingSettings
from spectra.training.skeleton import Bare, Skeleton, bare
from spectra.weights import open_pair
from spectra.weights.formats.hub import has_cached_configuration, locate, locate_locally

CUT_IN_A_PLAN = 200  # rows of a split


@dataclass(frozen=True, eq=False)
class Preflight:
    """What a sweep will read and cost.

    Attributes:
        inputs: All that it reads; None where a plan does without something that is not at hand.
        estimates: The expected cost of each trial.
        account: Of a plan, what becomes of every row (the table row_account, without the trial); texts are cut into
            tokens on the first rows of a split only.
    """

    inputs: Inputs | None
    estimates: tuple[Estimate, ...]
    account: tuple[Mapping[str, Any], ...] = ()

    def contents(self) -> dict[str, Any]:
        """What the run folder records of the inputs.

        Raises:
            SpecificationError: If something was not at hand.
        """
        if self.inputs is None:
            raise SpecificationError("Something that the sweep reads is not at hand. Fetch it, or go online once.")
        return self.inputs.described()


def preflight(
    specification: Specification,
    trials: Sequence[PlannedTrial],
    out: Path | str | None = None,
    *,
    planned: bool = False,
    elsewhere: bool = False,
) -> Preflight:
    """Open every input, build every kind of model, and hold them against one another.

    Args:
        specification: The sweep.
        trials: Its trials.
        out: The run folder, where one is meant.
        planned: For a plan: what would have to be fetched may be absent, and is then not looked at.
        elsewhere: The trials run on other machines, whose devices are not known here.

    Raises:
        SpecificationError: Naming every problem, in a sentence each.
        RunError: If the folder belongs to another sweep.
    """
    require_packages(specification.report_to, specification)
    run = Run(Path(out)) if out is not None and (Path(out) / "sweep.json").is_file() else None
    if run is not None:
        run.require_same(specification.model_dump(mode="json"), SHARED)
    recorded = run.inputs if run is not None else {}
    looked = _Look(specification, trials, recorded, planned=planned)
    tasks, held_out = looked.tasks(), looked.held_out()
    looked.replay(held_out)
    at_hand = looked.base_is_at_hand()
    looked.devices(elsewhere=elsewhere)
    if at_hand:
        looked.models(tasks)
        looked.measures(tasks, held_out)
        looked.texts(tasks, held_out)
    looked.checkpoints(tasks, held_out, base_at_hand=at_hand)
    looked.refuse()
    costs = estimates(specification, trials, looked.size, tasks[0] if tasks else None)
    if out is not None:
        looked.disk(Path(out), [one for one in costs if _is_left(one.trial, run)])
    contents = None
    if at_hand and not looked.absent and (run is not None or not planned):
        contents = looked.contents(tasks, held_out)
    looked.refuse()
    if contents is not None and run is not None:
        agreed(str(out), recorded, contents.described())
    account: Iterator[Mapping[str, Any]] = iter(())
    if planned:
        tokenizer = load_tokenizer(specification.base) if at_hand else None
        account = account_rows(tasks, [one.task for one in held_out], specification, tokenizer, CUT_IN_A_PLAN)
    return Preflight(contents, tuple(costs), tuple(account))


@dataclass
class _Look:
    """The looks at one sweep, and what they found.

    Attributes:
        problems: What is wrong.
        absent: Whether a plan did without something.
    """

    specification: Specification
    trials: Sequence[PlannedTrial]
    recorded: Mapping[str, Any]
    planned: bool
    problems: list[SpectraError] = field(default_factory=list)
    absent: bool = False
    _sizes: Sizes = field(default_factory=Sizes)

    def size(self, settings: TrainingSettings) -> Skeleton | None:
        """The size of what a trial trains; None where no model could be built."""
        return self._sizes.of(settings)

    def refuse(self) -> None:
        """End here if anything was found."""
        found = {str(problem): problem for problem in self.problems}
        if len(found) == 1:
            raise next(iter(found.values()))
        if found:
            raise SpecificationError("\n- ".join([f"{len(found)} things would fail:", *found]))

    def add(self, sentence: str) -> None:
        """Note a problem."""
        self.problems.append(SpecificationError(sentence))

    def tasks(self) -> tuple[TaskData, ...]:
        """The tasks that are trained on; fewer where one cannot be opened."""
        opened = []
        for task in self.specification.sequence:
            with self._noted(may_be_absent=isinstance(task, Mapping) and "hub" in task and _is_stated(task)):
                opened.append(load_task(task))
        if len({task.kind for task in opened}) > 1:
            self.add(
                f"The tasks are of different kinds ({', '.join(f'{task.name}: {task.kind}' for task in opened)}), and "
                "one model learns them all. Choose tasks of one kind."
            )
        return tuple(opened)

    def held_out(self) -> tuple[HeldOutInput, ...]:
        """The held-out tasks, each tried alone so that all that cannot be opened are named."""
        opened = []
        for one in self.specification.heldout:
            with self._noted(
                may_be_absent=isinstance(one, HeldOutSpecification) and isinstance(one.task, dict) and "hub" in one.task
            ):
                opened.append(open_entry(one))
        with self._noted():
            return named_apart(opened, self.recorded.get("heldout", ()))
        return ()

    def replay(self, held_out: Sequence[HeldOutInput]) -> None:
        """No text that a method replays is measured."""
        with self._noted():
            for sentence in replayed_problems(replayed_tasks(self.specification), [one.task for one in held_out]):
                self.add(sentence)

    def base_is_at_hand(self) -> bool:
        """Whether the base's configuration and tokenizer can be read; a plan does without those of the hub."""
        base = self.specification.base
        before = len(self.problems)
        on_the_hub = _is_on_the_hub(base)
        if self.planned and on_the_hub and not has_cached_configuration(base):
            self.absent = True
            return False
        with self._noted(may_be_absent=on_the_hub):
            load_config(base)
            load_tokenizer(base)
            return True
        self.absent |= len(self.problems) == before
        return False

    def devices(self, *, elsewhere: bool) -> None:
        """The arithmetic that training asks for exists on this machine's device."""
        precision = self.specification.precision
        if elsewhere or not self.specification.methods:
            return
        gpus = torch.cuda.device_count()
        for launch in {one.training.launch: None for one in self.trials if one.training and one.training.launch}:
            if gpus and not launch.on_cpu and launch.processes > gpus:
                self.add(
                    f"'{launch.accelerate}' launches {launch.processes} processes, a GPU each, and this machine has "
                    f"{gpus}. Lower num_processes and gpus_per_trial."
                )
        if precision == "float16" and not torch.cuda.is_available():
            self.add("precision is float16, which trains on a GPU only. Use bfloat16 or float32.")
        if self.specification.attention == "flash_attention_2" and not torch.cuda.is_available():
            self.add("attention is flash_attention_2, which runs on a GPU only. Use sdpa or eager.")
        if self.specification.attention == "flash_attention_2" and precision == "float32":
            self.add("attention is flash_attention_2, which has no float32. Use sdpa, or precision: bfloat16.")
        if precision == "bfloat16" and torch.cuda.is_available() and not torch.cuda.is_bf16_supported():
            self.add("precision is bfloat16, which this GPU does not have. Use float16 or float32.")

    def models(self, tasks: Sequence[TaskData]) -> None:
        """Build the base once and every method on it once."""
        kind, labels = self._kind_and_labels(tasks)
        built: Bare | None = None
        if kind is not None and self.specification.methods:
            with self._noted():
                built = bare(self.specification.base, kind, labels)
        if built is not None:
            self._sizes = sizes(built, [one.training for one in self.trials if one.training is not None], self._noted)
            supported = getattr(built.model, "supports_gradient_checkpointing", True)
            if self.specification.gradient_checkpointing and not supported:
                self.add(f"gradient_checkpointing is asked for, and {type(built.model).__name__} has none. Remove it.")
            with self._noted():
                for task in tasks:
                    require_writer(task, self.specification)

    def measures(self, tasks: Sequence[TaskData], held_out: Sequence[HeldOutInput]) -> None:
        """Every held-out task is of a kind that its measure scores, with a head that the models have."""
        with self._noted():
            kind = self._model_kind(tasks)
            for one in held_out:
                with self._noted():
                    _require_fit(one.task, kind, f"'{self.specification.base}'")

    def texts(self, tasks: Sequence[TaskData], held_out: Sequence[HeldOutInput]) -> None:
        """No text is longer than the base has positions, and plain texts fill at least one block."""
        with self._noted():
            for sentence in text_problems(self.specification, tasks, [one.task for one in held_out]):
                self.add(sentence)

    def checkpoints(self, tasks: Sequence[TaskData], held_out: Sequence[HeldOutInput], *, base_at_hand: bool) -> None:
        """Every checkpoint fits the base, the task and the measures."""
        for one in self.specification.checkpoints:
            name = one.checkpoint
            if self.planned and _is_on_the_hub(name):
                self.absent = True
                continue
            with self._noted():
                folder = locate(name)
                self._require_head(name, folder, tasks)
                if base_at_hand:
                    open_pair(resolve_model(self.specification.base), folder)
                for task in held_out:
                    _require_fit(task.task, tuned_kind(folder), f"'{name}'")

    def disk(self, out: Path, left: Sequence[Estimate]) -> None:
        """What will be kept, and the largest training while it runs, has room."""
        kept = sum(one.disk_bytes or 0 for one in left if self._is_kept(one))
        largest = max(((one.disk_bytes or 0) + 2 * (one.optimiser_bytes or 0) for one in left), default=0)
        there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
        free = shutil.disk_usage(there).free
        if kept + largest > free:
            self.add(
                f"The sweep needs about {(kept + largest) / 1e9:.2g} GB under '{out}', and {free / 1e9:.2g} GB are "
                "free. Free some space, choose another --out, or use keep: none."
            )

    def contents(self, tasks: tuple[TaskData, ...], held_out: tuple[HeldOutInput, ...]) -> Inputs | None:
        """The contents of all inputs; one pass over the weights of the base and of given checkpoints."""
        with self._noted():
            checkpoints = {one.checkpoint: content_of(one.checkpoint) for one in self.specification.checkpoints}
            replayed = replayed_tasks(self.specification)
            return Inputs(content_of(self.specification.base), tasks, held_out, checkpoints, replayed)
        return None

    @contextmanager
    def _noted(self, *, may_be_absent: bool = False) -> Iterator[None]:
        """Turn what is raised into a problem; of a plan, what is not at hand is none."""
        try:
            yield
        except (DataError, AssetError, ModelError) as error:
            not_fetched = isinstance(error, AssetError) or may_be_absent
            if not (self.planned and not_fetched):
                self.problems.append(error)
            else:
                self.absent = True
        except SpectraError as error:
            self.problems.append(error)

    def _kind_and_labels(self, tasks: Sequence[TaskData]) -> tuple[Any, int | None]:
        if tasks:
            return tasks[0].kind, tasks[0].outputs
        stated = next((task for task in self.specification.sequence if isinstance(task, Mapping)), {})
        return stated.get("kind"), len(stated.get("label_names", ())) or None

    def _model_kind(self, tasks: Sequence[TaskData]) -> ModelKind:
        kind, _ = self._kind_and_labels(tasks)
        if kind is None:
            return load_kind(self.specification.base)
        return FAMILIES[family_of(kind, self.specification.base)].model_kind

    def _require_head(self, name: str, folder: Path, tasks: Sequence[TaskData]) -> None:
        """A checkpoint that is scored on the task has the task's head."""
        if not tasks:
            return
        wanted, found = self._model_kind(tasks), tuned_kind(folder)
        if wanted != found:
            raise ModelError(
                f"Checkpoint '{name}' is a {found} model, and task '{tasks[0].name}' needs a {wanted} model. "
                "Remove the one or the other."
            )
        if not is_adapter(folder):
            in_order_of(tasks[0], load_config(str(folder)), name)
            return
        width, outputs = adapter_labels(folder), tasks[0].outputs
        if outputs is not None and width != outputs:
            raise ModelError(
                f"Checkpoint '{name}' has {f'a head of {width} outputs' if width else 'no head'}, and the task "
                f"'{tasks[0].name}' needs {outputs}. Remove the one or the other."
            )

    def _is_kept(self, one: Estimate) -> bool:
        training, keep = one.trial.training, self.specification.keep
        return training is not None and (keep == "all" or (keep == "adapters" and weights_kind(training) == "adapter"))


def _is_left(trial: PlannedTrial, run: Run | None) -> bool:
    """Whether a trial is still to be trained."""
    return trial.training is not None and (run is None or not run.trial(trial.id).is_finished)


def _require_fit(task: HeldOut, kind: ModelKind, model: str) -> None:
    """A measure scores such data with such a head.

    Raises:
        SpectraError: If it does not.
    """
    if task.data is not None and (kinds := HELD_OUT_MEASURES[task.measure].data_kinds):
        task.require_kind(*kinds)
    if not HELD_OUT_MEASURES[task.measure].measures(kind):
        raise ModelError(
            f"Held-out task '{task.name}' is measured by {task.measure}, which {model} as a {kind} model cannot be. "
            f"Use one of {', '.join(fitting(kind))}."
        )


def _is_stated(task: Mapping[str, Any]) -> bool:
    """Whether a task says enough of itself to be planned without its data."""
    return task.get("kind") in ("causal-lm", "seq2seq") or bool(task.get("kind") and task.get("label_names"))


def _is_on_the_hub(reference: str) -> bool:
    """Whether a model would have to be fetched: a name that is no path and in no cache."""
    try:
        return locate_locally(resolve_model(reference)) is None
    except (ModelError, AssetError):
        return False
