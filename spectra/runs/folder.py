"""The folder of one sweep.

sweep.json        resolved specification, command, versions, hardware, commit, trials, contents of the inputs
base/             scores of the untouched base model
trials/<id>/      one folder per trial (see trial.py)
tables/           all trials together (see schema.py), each as .parquet and .csv
report.html
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectra.errors import RunError
from spectra.records.verdicts import html_table
from spectra.runs.lock import locked
from spectra.runs.outcome import Configuration, configurations
from spectra.runs.schema import SCHEMAS, completed, tidy
from spectra.runs.trial import TrialFolder
from spectra.storage import atomic
from spectra.storage.destinations import require_continued
from spectra.storage.tables import read_parquet, write_csv, write_parquet

if TYPE_CHECKING:
    import pandas as pd

# Name among the results of the base model of its score on the task that is trained on; the others are held-out tasks.
BASE_TASK = "task"


@dataclass(frozen=True, init=False)
class Run:
    """A run folder. `Run.open` reads an existing one, `Run.create` starts or continues one."""

    path: Path

    def __init__(self, path: Path | str) -> None:
        """The run folder at a path, whether it is there or not."""
        object.__setattr__(self, "path", Path(path))

    @classmethod
    def open(cls, path: Path | str) -> "Run":
        """An existing run folder.

        Raises:
            RunError: If the folder holds no sweep.json.
        """
        run = cls(path)
        if not (run.path / "sweep.json").is_file():
            raise RunError(
                f"'{path}' is no run folder: it has no sweep.json. Name the --out folder of `spectra sweep`."
            )
        return run

    @classmethod
    def create(
        cls,
        path: Path | str,
        sweep: Mapping[str, Any],
        *,
        same: Mapping[str, Any],
        inputs: Callable[[Mapping[str, Any] | None], Mapping[str, Any]] = lambda there: {},
    ) -> "Run":
        """Start a run folder, or continue the one that is there.

        Args:
            path: The folder; made if absent.
            sweep: What sweep.json will hold; `sweep["specification"]` is the resolved specification.
            same: Fields of the specification that a continued folder must share, because its rows would not be
                comparable otherwise, each with the value that a record means which lacks it.
            inputs: Given the recorded contents of what the sweep reads (None for a new folder), those to record.

        Raises:
            RunError: If the folder holds another sweep, or was begun by a version that recorded no contents.
            DestinationError: If it holds other files and no sweep.
        """
        require_continued(Path(path), "sweep")
        run = cls(path)
        with run.lock():
            there: dict[str, Any] = {}
            if (run.path / "sweep.json").is_file():
                run.require_same(sweep["specification"], same)
                there = run.sweep
                if "inputs" not in there:
                    raise RunError(
                        f"'{path}' was begun by a version that did not record what its base and data held, "
                        "so that nothing can be added to it. Choose another --out."
                    )
            atomic.write_json(
                run.path / "sweep.json",
                {**sweep, "trials": _all(there, sweep), "inputs": inputs(there.get("inputs"))},
            )
        return run

    def require_same(self, specification: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
        """Refuse a specification that differs in fields which all rows share.

        Args:
            specification: As JSON.
            fields: These fields, each with the value that a record means which lacks it.

        Raises:
            RunError: Naming the first one.
        """
        for field, default in fields.items():
            there, here = self.specification.get(field, default), specification.get(field, default)
            if there != here:
                raise RunError(
                    f"'{self.path}' belongs to another sweep: its {field} is {there!r}, not {here!r}. "
                    "Choose another --out."
                )

    @property
    def sweep(self) -> dict[str, Any]:
        """The content of sweep.json: "specification", "command", "versions", ... of the last call; "trials" of all."""
        found = atomic.read_json(self.path / "sweep.json")
        trials = found.get("trials", [])
        if not isinstance(trials, list) or not all(_describes(trial) for trial in trials):
            raise RunError(
                f"'{self.path / 'sweep.json'}' describes no trials as `spectra sweep` does. Name one of its folders."
            )
        return found

    @property
    def inputs(self) -> dict[str, Any]:
        """The contents of what the sweep reads: "base", "tasks", "heldout", "checkpoints"."""
        return dict(self.sweep.get("inputs", {}))

    @property
    def specification(self) -> dict[str, Any]:
        """The resolved specification of the sweep."""
        found = self.sweep.get("specification")
        if not isinstance(found, dict):
            raise RunError(f"'{self.path / 'sweep.json'}' holds no specification. Name a folder of `spectra sweep`.")
        return found

    @property
    def held_out(self) -> frozenset[str]:
        """Names of the held-out tasks that every trial is measured on."""
        return frozenset(one["name"] for one in self.inputs.get("heldout", ()))

    def lock(self) -> AbstractContextManager[None]:
        """Hold the lock of the whole folder: for sweep.json and tables/."""
        return locked(self.path / "lock")

    def trial(self, trial_id: str) -> TrialFolder:
        """The folder of one trial, whether or not it exists yet."""
        return TrialFolder(self.path / "trials" / trial_id)

    def trials(self) -> list[TrialFolder]:
        """The folders of all trials that have been described, in the order of their identity."""
        return [TrialFolder(path.parent) for path in sorted((self.path / "trials").glob("*/trial.json"))]

    def base_lock(self) -> AbstractContextManager[None]:
        """Hold the lock of base/, so that two processes do not measure the base model twice."""
        return locked(self.path / "base" / "lock")

    def base_result(self, name: str) -> dict[str, Any] | None:
        """What was measured of the untouched base model under this name; None if it was not yet."""
        path = self._base_path(name)
        return atomic.read_json(path) if path.exists() else None

    def write_base_result(self, name: str, result: Mapping[str, Any]) -> None:
        """Write what was measured of the base model. Call it while holding the lock of base/."""
        atomic.write_json(self._base_path(name), result)

    def _base_path(self, name: str) -> Path:
        """One file per name; names of held-out tasks may hold characters that file names may not."""
        safe = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "task"
        return self.path / "base" / f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}.json"

    @property
    def log(self) -> Path:
        """Path of the log of what belongs to no single trial."""
        return self.path / "log.txt"

    @property
    def report(self) -> Path:
        """Path of the HTML report."""
        return self.path / "report.html"

    def write_table(self, name: str, rows: "Iterable[Mapping[str, Any]] | pd.DataFrame") -> "pd.DataFrame":
        """Write a table of the whole run as Parquet and CSV. Call it while holding the lock."""
        import pandas as pd

        table = tidy(name, rows.to_dict("records") if isinstance(rows, pd.DataFrame) else rows)  # type: ignore[arg-type]
        write_parquet(self.path / "tables" / f"{name}.parquet", table)
        write_csv(self.path / "tables" / f"{name}.csv", table)
        return table

    def table(self, name: str) -> "pd.DataFrame":
        """A table of the whole run; its columns are in `SCHEMAS[name]`.

        A run of an earlier version lacks the tables that came later: they are empty; and columns, which are missing.

        Raises:
            RunError: If there is no such table, or the run has not written it yet.
        """
        if name not in SCHEMAS:
            raise RunError(f"There is no table '{name}'. Choose one of {', '.join(SCHEMAS)}.")
        path = self.path / "tables" / f"{name}.parquet"
        if not path.exists():
            if (self.path / "tables" / "trials.parquet").exists():  # written last
                return tidy(name, [])
            raise RunError(f"'{self.path}' has no table '{name}' yet. Let `spectra sweep --out {self.path}` finish.")
        return completed(name, read_parquet(path, error=RunError))

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of `spectra sweep`: the folder, its report and the tables of what was measured."""
        tables = {
            name: json.loads(self.table(name).to_json(orient="records", double_precision=15))
            for name in ("trials", "forgetting", "row_account")
        }
        return {"run": str(self.path), "report": str(self.report.resolve()), **tables}

    def to_dataframe(self, name: str = "trials") -> "pd.DataFrame":
        """A table of the whole run, as `table` gives it."""
        return self.table(name)

    def configurations(self) -> Sequence[Configuration]:
        """One entry per configuration at its chosen learning rate, over its seeds."""
        return configurations(self.table("trials"), self.table("forgetting"))

    def _repr_html_(self) -> str:
        """One row per configuration at its chosen learning rate, for notebooks."""
        trials, forgetting = self.table("trials"), self.table("forgetting")
        heldout = list(dict.fromkeys(forgetting["heldout"]))
        rows = [
            (
                one.label,
                "–" if one.learning_rate is None else f"{one.learning_rate:g}",
                "–" if one.score is None else f"{one.score:.4f}",
                *(f"{one.forgetting[name]:+.4f}" if name in one.forgetting else "–" for name in heldout),
                f"{one.count:g}",
                f"{one.update_frobenius:.3g}",
            )
            for one in self.configurations()
        ]
        failed = [
            f"{row['label']}, seed {row['seed']}: failed: {row['error']}"
            for row in trials.to_dict("records")
            if row["error"]
        ]
        headings = ("configuration", "learning rate", "score", *heldout, "intruders", "|update|")
        return html_table(f"{self.path}: {len(trials)} trials", headings, rows, failed)


def _describes(trial: object) -> bool:
    """Whether an entry of sweep.json names a trial: its identity is the name of a folder in trials/."""
    return (
        isinstance(trial, dict)
        and isinstance(trial.get("id"), str)
        and re.fullmatch(r"[0-9a-zA-Z_-]+", trial["id"]) is not None
        and all(isinstance(trial.get(name), str) for name in ("label", "group"))
        and all(isinstance(trial.get(name), int | float | None) for name in ("learning_rate", "seed"))
    )


def _all(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[Any]:
    """The trials of earlier calls and of this one, each once, as the latest call describes it."""
    return list({trial["id"]: trial for sweep in (there, here) for trial in sweep.get("trials", ())}.values())
