"""One trial's folder: what it holds, what it still lacks, and who may write to it.

trial.json          resolved specification, versions, seed, hardware, contents of the inputs
training/           the Trainer's own checkpoints; removed once the trained weights are saved
adapter/ | checkpoint/   the trained weights, safetensors
kept/step-<n>/      the weights at the steps that the sweep asks to keep
metrics.json        validation score, cost, history's summary
spectra/            matrices.parquet, vectors.parquet, controls.parquet, update_spectra.parquet, similarity.parquet
timings.json        seconds spent on each part of the trial
row_account.parquet, history.parquet, trajectory.parquet,
                    trajectory_matrices.parquet, forgetting.parquet, scores.parquet
test.json           the score on the test split, of a chosen trial only
continual.parquet   of a sequence of tasks: every task's score after each of them
steps/<n>/          of a sequence of tasks: a folder like this one per task, with merged/ and head.safetensors
rungs.json          validation scores at the steps where hopeless learning rates are stopped, and what was decided
failure.json        attempts and the reason of the last failure
log.txt             what the trial said while it ran
finished            written last: everything above is whole; names the held-out tasks that were measured
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from spectra.errors import RunError
from spectra.runs.lock import is_locked, try_lock
from spectra.runs.schema import tidy
from spectra.storage import atomic
from spectra.storage.tables import read_parquet, write_parquet

if TYPE_CHECKING:
    import pandas as pd

TrialState = Literal["done", "failed", "running", "interrupted", "waiting", "paused", "stopped early"]

SPECTRAL_TABLES = {"matrices", "vectors", "controls", "update_spectra", "similarity"}


@dataclass(frozen=True)
class TrialFolder:
    """The folder RUN/trials/<id>."""

    path: Path

    @property
    def id(self) -> str:
        """Identity of the trial: the folder's name."""
        return self.path.name

    # What the trial is.

    @property
    def settings(self) -> dict[str, Any]:
        """The content of trial.json: "specification", "label", "versions", "hardware", "commit", "inputs"."""
        found = atomic.read_json(self.path / "trial.json")
        texts = all(isinstance(found.get(name, ""), str) for name in ("label", "group"))
        if not (texts and isinstance(found.get("specification", {}), dict)):
            raise self.foreign("trial.json")
        return found

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        """Write trial.json."""
        atomic.write_json(self.path / "trial.json", settings)

    # Where training leaves its weights.

    @property
    def training(self) -> Path:
        """Folder of the Trainer's checkpoints."""
        return self.path / "training"

    @property
    def adapter(self) -> Path:
        """Folder of the trained adapter."""
        return self.path / "adapter"

    @property
    def checkpoint(self) -> Path:
        """Folder of the trained full checkpoint."""
        return self.path / "checkpoint"

    @property
    def weights(self) -> Path | None:
        """The trained weights, whichever of the two there is; None before training ends or after they were dropped."""
        return next((folder for folder in (self.adapter, self.checkpoint) if folder.is_dir()), None)

    @contextmanager
    def saving_weights(self, kind: Literal["adapter", "checkpoint"]) -> Iterator[Path]:
        """Yield an empty folder to save into; it becomes `adapter` or `checkpoint` when everything is written."""
        with atomic.replacing(self.path / kind) as partial:
            partial.mkdir()
            yield partial
        atomic.remove(self.training)

    @contextmanager
    def keeping_weights(self, step: int) -> Iterator[Path]:
        """Yield an empty folder for the weights at a step of the training; it is kept when everything is written."""
        with atomic.replacing(self.path / "kept" / f"step-{step}") as partial:
            partial.mkdir()
            yield partial

    @property
    def kept(self) -> dict[int, Path]:
        """Folders of the weights that were kept along the way, by step."""
        folders = {folder.name.removeprefix("step-"): folder for folder in (self.path / "kept").glob("step-*")}
        found = {int(step): folder for step, folder in folders.items() if step.isdecimal()}
        return dict(sorted(found.items()))

    def drop_weights(self, *, adapters: bool) -> None:
        """Delete full checkpoints, and adapters if asked. Call it only when every row that needs them is written."""
        for folder in (self.adapter, self.checkpoint, *self.kept.values()):
            if adapters or not (folder / "adapter_config.json").is_file():
                atomic.remove(folder)

    # The steps of a sequence of tasks.

    def step(self, number: int) -> "TrialFolder":
        """The folder of one task of a sequence, from 1; it is laid out like a trial's."""
        return TrialFolder(self.path / "steps" / str(number))

    def forget_steps(self) -> None:
        """Delete the folders of all tasks of a sequence."""
        atomic.remove(self.path / "steps")

    @property
    def merged(self) -> Path:
        """Folder of all weights after this step, the updates of earlier tasks included."""
        return self.path / "merged"

    @property
    def head(self) -> Path:
        """File of the task head that was trained in this step."""
        return self.path / "head.safetensors"

    # What was measured.

    @property
    def metrics(self) -> dict[str, Any] | None:
        """The content of metrics.json: columns of the trials table; None before training ended."""
        return self._optional("metrics.json")

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write metrics.json."""
        atomic.write_json(self.path / "metrics.json", metrics)

    @property
    def test(self) -> dict[str, Any] | None:
        """The content of test.json: columns of the trials table; None where the test split was not touched."""
        return self._optional("test.json")

    def write_test(self, scores: Mapping[str, Any]) -> None:
        """Write test.json."""
        atomic.write_json(self.path / "test.json", scores)

    def write_rows(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write this trial's rows of a table; the column `trial` is filled in."""
        table = tidy(name, [{**row, "trial": self.id} for row in rows])
        write_parquet(self._table_path(name), table)

    def rows(self, name: str) -> "pd.DataFrame | None":
        """This trial's rows of a table; None if they are not written yet."""
        path = self._table_path(name)
        return read_parquet(path, error=RunError) if path.exists() else None

    @property
    def seconds(self) -> dict[str, float]:
        """The time that was spent on each part of the trial."""
        found = self._optional("timings.json") or {}
        if not all(isinstance(spent, int | float) for spent in found.values()):
            raise self.foreign("timings.json")
        return found

    def add_seconds(self, seconds: Mapping[str, float]) -> None:
        """Add the time that was spent on each part of the trial."""
        total = self.seconds
        total |= {part: total.get(part, 0.0) + spent for part, spent in seconds.items()}
        atomic.write_json(self.path / "timings.json", total)

    def add_forgetting(self, rows: Iterable[Mapping[str, Any]], examples: Iterable[Mapping[str, Any]]) -> None:
        """Add rows of held-out tasks, and the loss on every example, so that later statistics can pair them.

        Rows of a task that `measured` does not name were left by an interrupted call and are replaced.
        """
        import pandas as pd

        old, old_examples = (self._of_measured(table) for table in (self.rows("forgetting"), self.scores()))
        self.write_rows("forgetting", [*old, *rows])
        write_parquet(self.path / "scores.parquet", pd.DataFrame([*old_examples, *examples]))

    def _of_measured(self, table: "pd.DataFrame | None") -> list[Any]:
        if table is None or "heldout" not in table:
            return []
        return list(table[table["heldout"].isin(self.measured)].to_dict("records"))

    def scores(self) -> "pd.DataFrame | None":
        """Per-example losses (heldout, example, loss, weight); None if they are not written yet."""
        path = self.path / "scores.parquet"
        return read_parquet(path, error=RunError) if path.exists() else None

    @property
    def log(self) -> Path:
        """Path of the log."""
        return self.path / "log.txt"

    def _table_path(self, name: str) -> Path:
        folder = self.path / "spectra" if name in SPECTRAL_TABLES else self.path
        return folder / f"{name}.parquet"

    def foreign(self, name: str) -> RunError:
        """The refusal of a file of this folder that no sweep wrote."""
        return RunError(f"'{self.path / name}' is not as `spectra sweep` writes it. Name a folder that it wrote.")

    def _optional(self, name: str) -> dict[str, Any] | None:
        path = self.path / name
        return atomic.read_json(path) if path.exists() else None

    # Whether it is worth going on.

    @property
    def scores_on_the_way(self) -> dict[int, float]:
        """Validation scores at the steps where it is decided whether the training goes on."""
        return {int(step): float(score) for step, score in self._rungs["scores"].items()}

    @property
    def passed(self) -> frozenset[int]:
        """Steps where it was decided that the training goes on."""
        return frozenset(self._rungs["passed"])

    @property
    def stopped_at(self) -> int | None:
        """The step at which the training was stopped for good; None where it was not."""
        step: int | None = self._rungs["stopped"]
        return step

    @property
    def why_stopped(self) -> str:
        """The sentence of an early stop; empty where there was none."""
        return str(self._rungs["because"])

    def score_on_the_way(self, step: int, score: float) -> None:
        """Write the validation score at a step."""
        self._write_rungs(scores={**self._rungs["scores"], str(step): score})

    def pass_on(self, step: int) -> None:
        """Write that the training goes on after a step."""
        self._write_rungs(passed=sorted({*self.passed, step}))

    def stop_early(self, step: int, because: str) -> None:
        """Write that the training was stopped for good."""
        self._write_rungs(stopped=step, because=because)

    @property
    def _rungs(self) -> dict[str, Any]:
        return {"scores": {}, "passed": [], "stopped": None, "because": "", **(self._optional("rungs.json") or {})}

    def _write_rungs(self, **changed: Any) -> None:
        atomic.write_json(self.path / "rungs.json", {**self._rungs, **changed})

    # Where it stands.

    @property
    def is_over(self) -> bool:
        """True when nothing is left to do in this call: it is finished, it failed, or it was stopped early."""
        return self.is_finished or self.failure is not None or self.stopped_at is not None

    @property
    def is_finished(self) -> bool:
        """True when training and measuring are complete and written."""
        return (self.path / "finished").exists()

    def finish(self, measured: Iterable[str] = ()) -> None:
        """Write the marker that is written last, with the names of the held-out tasks that were measured."""
        atomic.remove(self.path / "failure.json")
        atomic.write_json(self.path / "finished", {"heldout": sorted(measured)})

    @property
    def measured(self) -> frozenset[str]:
        """Names of the held-out tasks that a finished trial was measured on; empty before."""
        return frozenset(atomic.read_json(self.path / "finished")["heldout"]) if self.is_finished else frozenset()

    @property
    def failure(self) -> dict[str, Any] | None:
        """The content of failure.json: "error", "attempts"; None if it never failed."""
        found = self._optional("failure.json")
        if found is not None and not (isinstance(found.get("error"), str) and isinstance(found.get("attempts"), int)):
            raise self.foreign("failure.json")
        return found

    def record_failure(self, error: str) -> int:
        """Add one failed attempt with its reason.

        Returns:
            The number of failed attempts so far.
        """
        attempts = (self.failure or {}).get("attempts", 0) + 1
        atomic.write_json(self.path / "failure.json", {"error": error, "attempts": attempts})
        return attempts

    def forget_failure(self) -> None:
        """Give a failed trial a new set of attempts."""
        atomic.remove(self.path / "failure.json")

    def claim(self) -> AbstractContextManager[bool]:
        """Hold the trial's lock while working on it; yields False if another process holds it."""
        return try_lock(self.path / "lock")

    def clear_partials(self) -> None:
        """Clear what a killed process left half-written. Call it only while the trial is claimed."""
        atomic.remove_partials(self.path)

    @property
    def state(self) -> TrialState:
        """Where the trial stands, as far as its files and its lock tell."""
        if self.is_finished:
            return "done"
        if is_locked(self.path / "lock"):
            return "running"
        if self.stopped_at is not None:
            return "stopped early"
        if self.failure:
            return "failed"
        if set(self.scores_on_the_way) - self.passed:
            return "paused"
        return "interrupted" if self.training.exists() or self.weights else "waiting"

    @property
    def specification(self) -> dict[str, Any]:
        """The resolved specification of the trial."""
        found = self.settings.get("specification")
        if found is None:
            raise self.foreign("trial.json")
        return dict(found)
