"""Where every trial of a run stands: the record of `spectra status`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from spectra.errors import RunError
from spectra.records.listing import Listing
from spectra.runs.folder import Run
from spectra.runs.trial import TrialFolder


@dataclass(frozen=True)
class RunStatus(Listing):
    """The trials of a run, each with its state, its error, its attempts and the time of its training.

    Attributes:
        entries: One per trial.
        run: The run folder as it was named.
    """

    caption: ClassVar[str] = "Trials"

    run: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of `spectra status`."""
        return {"run": self.run, "trials": list(self.rows())}

    @property
    def train_seconds_left(self) -> float | None:
        """Training time that is left at the pace of the trials that are done; None where nothing is left, or known.

        Failed trials wait for the next call, and what was stopped early is over.
        """
        known = [row["train_seconds"] for row in self.entries if row["state"] == "done" and row["train_seconds"]]
        left = sum(row["state"] not in ("done", "failed", "stopped early") for row in self.entries)
        return left * sum(known) / len(known) if known and left else None

    @property
    def seconds_by_part(self) -> dict[str, float]:
        """Seconds of all trials together, by part of the work, the longest first."""
        spent: dict[str, float] = {}
        for row in self.entries:
            for part, seconds in row["seconds"].items():
                spent[part] = spent.get(part, 0.0) + seconds
        return dict(sorted(spent.items(), key=lambda one: -one[1]))


def status(run: str | Path) -> RunStatus:
    """Show where every trial of a run folder stands, whichever call asked for it; it may be running at the same time.

    Args:
        run: The folder of `spectra sweep`.

    Raises:
        RunError: If it is no run folder.

    Example:
        >>> spectra.status(run).to_dataframe()["state"].unique().tolist()
        ['done']
    """
    opened = Run.open(run)
    described = {trial["id"]: trial for trial in opened.sweep["trials"]}
    for folder in opened.trials():
        if folder.id not in described:
            described[folder.id] = _described(folder)
    return RunStatus([_state(opened, trial) for trial in described.values()], str(run))


def _described(folder: TrialFolder) -> dict[str, Any]:
    """A trial that only its own folder knows of."""
    written = folder.settings
    known = {name: written["specification"].get(name) for name in ("learning_rate", "seed")}
    return {"id": folder.id, "label": written["label"], "group": written["group"], **known}


def _state(run: Run, planned: Mapping[str, Any]) -> dict[str, Any]:
    folder = run.trial(planned["id"])
    if not folder.path.exists():  # of thousands that wait, one look each
        return {**planned, "state": "waiting", "error": "", "attempts": 0, "train_seconds": None, "seconds": {}}
    failure = folder.failure or {}
    train_seconds = (folder.metrics or {}).get("train_seconds")
    if not isinstance(train_seconds, int | float | None):
        raise RunError(
            f"'{folder.path / 'metrics.json'}' holds no time of a training. Name a folder of `spectra sweep`."
        )
    return {
        **planned,
        "state": folder.state,
        "error": folder.why_stopped or failure.get("error", ""),
        "attempts": failure.get("attempts", 0),
        "train_seconds": train_seconds,
        "seconds": folder.seconds,
    }
