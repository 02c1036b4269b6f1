"""Measure a tuned model with its intruders scaled and with every control, in place, point by point."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from spectra.errors import RunError
from spectra.forgetting import HeldOut
from spectra.interventions.arms import INTRUDERS, Arm
from spectra.interventions.in_place import edited
from spectra.interventions.intervention_run import InterventionRun
from spectra.interventions.model_scorer import ModelScorer
from spectra.interventions.own_task import OwnTask
from spectra.interventions.points import Point
from spectra.interventions.subject import Subject
from spectra.interventions.tables import Measured, State
from spectra.models import content_of
from spectra.records.provenance import versions
from spectra.scanning.scan import Progress
from spectra.statistics.information import few_examples_warning
from spectra.storage.atomic import write_json
from spectra.storage.destinations import mark
from spectra.storage.keyed import KeyedStore
from spectra.storage.tables import write_csv, write_parquet

# What the untouched base is kept under, beside what every point is measured with.
BASE_KEY: Mapping[str, Any] = {"model": "base"}


def tuned_key(checkpoint: str) -> dict[str, Any]:
    """What the tuned model without an edit is kept under."""
    return {"model": "tuned", "checkpoint": content_of(checkpoint)}


@dataclass(frozen=True)
class Statistics:
    """How figures get their intervals.

    Attributes:
        seed: Of the bootstrap, and of random controls.
        resamples: Replicates.
        level: Coverage, in (0, 1).
    """

    seed: int = 0
    resamples: int = 2000
    level: float = 0.95


@dataclass(frozen=True, eq=False)
class Experiment:
    """An intervention that can be looked at before it is done: after Ctrl-C, `record()` holds what was finished.

    Attributes:
        subject: The checkpoint, its verdicts and what is treated.
        arms: The intruder arm, and the controls matched to it.
        left_out: Controls that could not be built, and why.
        scorer: Loads models and scores them.
        lambdas: Increasing factors, 1 included.
        statistics: Of the figures.
        store: Finished points.
        common: What every point is measured with (model, tasks, arithmetic); a change of it makes new points.
        folder: Where tables are written; None writes none.
    """

    subject: Subject
    arms: Sequence[Arm]
    left_out: Mapping[str, str]
    scorer: ModelScorer
    lambdas: tuple[float, ...]
    statistics: Statistics
    store: KeyedStore
    common: Mapping[str, Any]
    folder: Path | None

    def run(self, progress: Progress | None = None) -> None:
        """Measure what is not in the store: the untouched base, the tuned model, then every arm, lambda by lambda."""
        wanted = [None, *self._states]
        missing = [state for state in wanted if self._find(state) is None]
        if None in missing:
            self._keep(None, self.scorer.base_point())
            self._say(progress, missing, None)
        if any(state is not None for state in missing):
            tuned = self.scorer.tuned()
            for state in missing:
                if state is not None:
                    arm, factor = state
                    edits = {} if factor == 1 else self._by_name[arm].edits(factor)
                    with edited(tuned.model, edits):
                        self._keep(state, self.scorer.point(tuned))
                    self._say(progress, missing, state)

    def record(self) -> InterventionRun:
        """Everything that is measured, with its statistics.

        Raises:
            RunError: If not even the base and the tuned model are measured yet.
        """
        base, tuned = self._find(None), self._find((INTRUDERS, 1.0))
        if base is None or tuned is None:
            raise RunError("Neither base nor tuned model is measured yet. Run the same command again.")
        points = {
            (arm.name, factor): point
            for arm in self.arms
            for factor in self.lambdas
            if (point := self._find((arm.name, factor))) is not None
        }
        scan, statistics = self.subject.scan, self.statistics
        labels = {"trial": trial_of(scan.checkpoint), "checkpoint": scan.checkpoint}
        measured = Measured(labels, self._by_name, base, points, **asdict(statistics))
        rows, contrasts = measured.tables()
        return InterventionRun(
            trial=labels["trial"],
            checkpoint=labels["checkpoint"],
            base=self.scorer.base,
            select=self.subject.select,
            share=self.subject.share,
            k=scan.k,
            epsilon=scan.epsilon,
            count=scan.count,
            matrices=len(scan.matrices),
            directions=self.subject.directions,
            treated=tuple(self.subject.chosen),
            lambdas=self.lambdas,
            rows=rows,
            contrasts=contrasts,
            left_out=self.left_out,
            missing=tuple(state for state in self._all if state not in points),
            warnings=self._warnings(tuned),
            versions=versions(),
            seed=statistics.seed,
            resamples=statistics.resamples,
            level=statistics.level,
        )

    def finish(self) -> InterventionRun:
        """Everything that is measured, written into the folder, if there is one."""
        record = self.record()
        self.write(record)
        return record

    def write(self, record: InterventionRun) -> None:
        """Write interventions.json, and both tables as Parquet and CSV, into the folder, if there is one."""
        if self.folder is None:
            return
        mark(self.folder, "intervene")
        for name, rows in (("interventions", "points"), ("intervention_contrasts", "contrasts")):
            table = record.to_dataframe(rows)  # type: ignore[arg-type] # the two words above
            write_parquet(self.folder / f"{name}.parquet", table)
            write_csv(self.folder / f"{name}.csv", table)
        write_json(self.folder / "interventions.json", record.to_dict())

    @cached_property
    def _by_name(self) -> Mapping[str, Arm]:
        return {arm.name: arm for arm in self.arms}

    @cached_property
    def _all(self) -> Sequence[State]:
        """Every state, lambda by lambda from the removal on, so that an interrupted run has whole lambdas."""
        return [(arm.name, factor) for factor in self.lambdas for arm in self.arms]

    @cached_property
    def _states(self) -> Sequence[State]:
        """The states to measure: at lambda = 1 all arms are the tuned model, which is measured once, and first."""
        return [(INTRUDERS, 1.0), *(state for state in self._all if state[1] != 1)]

    def _find(self, state: State | None) -> Point | None:
        kept = self.store.find([self.common, self._key(state)])
        return Point.from_dict(kept) if kept else None

    def _keep(self, state: State | None, point: Point) -> None:
        key = self._key(state)
        self.store.keep([self.common, key], {"state": key, "measured_with": self.common, **point.to_dict()})

    def _key(self, state: State | None) -> Mapping[str, Any]:
        """What a point depends on beside the tasks: the base alone; the checkpoint; or the edit as well."""
        if state is None:
            return BASE_KEY
        scan = self.subject.scan
        tuned = tuned_key(scan.checkpoint)
        arm, factor = state
        if factor == 1:
            return tuned
        chosen = {name: list(positions) for name, positions in self.subject.chosen.items()}
        seed = None if arm in (INTRUDERS, "shrink", "shrink-all", "neighbour") else self.statistics.seed
        scanned = [matrix.name for matrix in scan.matrices] if arm in ("shrink-all", "stand-in") else None
        edit = {"arm": arm, "factor": factor, "chosen": chosen, "k": scan.k, "seed": seed, "scanned": scanned}
        # Which vectors and matrices are free of intruders depends on epsilon.
        free = {"epsilon": scan.epsilon} if arm in ("neighbour", "stand-in") else {}
        return {**tuned, **edit, **free}

    def _say(self, progress: Progress | None, missing: Sequence[State | None], state: State | None) -> None:
        if progress is not None:
            name = "base" if state is None else "tuned" if state[1] == 1 else f"{state[0]} {state[1]:g}"
            progress(missing.index(state) + 1, len(missing), name)

    def _warnings(self, tuned: Point) -> tuple[str, ...]:
        measured = [*tuned.held_out.values(), *([tuned.own] if tuned.own else [])]
        told = [sentence for scores in measured for sentence in few_examples_warning(len(scores.values), scores.task)]
        told += self.scorer.own.data.warnings if self.scorer.own is not None else ()
        told += [f"Control '{name}' is left out: {reason}" for name, reason in self.left_out.items()]
        treated, least = self._by_name[INTRUDERS], self.lambdas[0]
        if treated.update_norm(least) > treated.update_norm(1.0):
            told.append(
                f"Scaling the intruders by {least:g} raises the norm of the update: they hold energy of W0 as well. A "
                "control of the same norm then grows the update in place of shrinking it."
            )
        return (*self.subject.scan.warnings, *told)


def trial_of(checkpoint: str) -> str:
    """Identity of the trial whose folder holds the checkpoint, or ""."""
    folder = Path(checkpoint).resolve().parent
    return folder.name if (folder / "trial.json").is_file() else ""


def described(held_out: Sequence[HeldOut], own: OwnTask | None) -> dict[str, Any]:
    """Everything about the tasks that shapes a score."""
    tasks = [
        {**asdict(replace(task, data=None)), "data": task.data.fingerprint if task.data else None} for task in held_out
    ]
    return {"held_out": tasks, "own": own.described() if own else None}
