"""`verify`: train what was advised, as the run it came from was trained, and hold the outcome against the advice."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectra.advice.records import Advice, number
from spectra.errors import RunError
from spectra.records.verdicts import html_table
from spectra.runs import Run
from spectra.sweep import Specification, read_specification, run_sweep
from spectra.sweep.execution.schedule import OnEvent
from spectra.sweep.spec.plan import plan
from spectra.sweep.sweep import Executor
from spectra.sweep.trial.learning_rate_selection import best_configuration

if TYPE_CHECKING:
    import pandas as pd

COMPARED = ("full", "lora")  # methods of the run that the outcome stands beside
FIGURES = ("learning_rate", "validation_score", "task_score", "count", "update_frobenius", "trainable_parameters")


@dataclass(frozen=True)
class Outcome:
    """One configuration, averaged over its seeds.

    Attributes:
        label: "advised", or what the run calls it.
        seeds: How many trials stand behind the figures.
        figures: Of the columns `FIGURES` of the trials table; None where a trial has none.
        forgetting: By held-out task.
    """

    label: str
    seeds: int
    figures: dict[str, float | None]
    forgetting: dict[str, float]


@dataclass(frozen=True)
class Verification:
    """Prediction against outcome.

    Attributes:
        run: The folder that holds the advised trials.
        outcomes: The advised configuration first, then the run's own full and LoRA trials.
        matrices: Matrices and seeds whose threshold was predicted.
        predicted: Of these, where the trained update exceeds the predicted critical size.
        found: Where the scan counts an intruder.
        agreeing: Where both say the same.
    """

    run: str
    outcomes: tuple[Outcome, ...]
    matrices: int
    predicted: int
    found: int
    agreeing: int

    def sentence(self) -> str:
        """What became of the predicted thresholds."""
        return (
            f"Intruders were predicted in {self.predicted} and found in {self.found} of {self.matrices} trained "
            f"matrices; prediction and outcome agree in {self.agreeing}."
        )

    def to_dict(self) -> dict[str, Any]:
        """The JSON object."""
        return asdict(self)

    def _repr_html_(self) -> str:
        """One row per configuration, for notebooks."""
        rows = [(one.label, str(one.seeds), *(number(one.figures[name]) for name in FIGURES)) for one in self.outcomes]
        return html_table(
            f"Prediction against outcome ({self.run})", ("configuration", "seeds", *FIGURES), rows, [self.sentence()]
        )


def verify(
    advice: Advice,
    source: str | Path,
    out: str | Path,
    *,
    executor: Executor = "local",
    on_event: OnEvent = lambda event: None,
    command: str = "",
) -> Verification:
    """Train the advised configuration on the specification of the run that it came from.

    Everything but method, modules, rank and alpha stays: base, task, steps, seeds, and the learning rate of the run's
    best LoRA configuration.

    Args:
        advice: What `advise` made of the run.
        source: The run folder.
        out: Run folder of the advised trials; a second call goes on where the first stopped.
        executor: "local" isolates the work in processes; "inline" does it in this one.
        on_event: Called with every event of the sweep.
        command: The command line, for the record.

    Raises:
        RunError: If the source is no run folder, or no LoRA trial says how to train.
    """
    run = Run.open(source)
    trials = run.table("trials")
    specification = verifying(advice, run)
    trained = run_sweep(specification, out, executor=executor, on_event=on_event, command=command)
    table = trained.table("trials")
    # The folder may hold trials of an earlier advice.
    table = table[table["trial"].isin([trial.id for trial in plan(specification)])]
    failed = table[table["status"] != "done"]
    if len(failed):
        raise RunError(f"Training the advised configuration failed: {failed['error'].iloc[0]}. See '{trained.path}'.")
    outcomes = [_outcome("advised", trained, table)]
    for method in COMPARED:
        group = best_configuration(trials[trials["method"] == method])
        if len(group):
            outcomes.append(_outcome(str(group["label"].iloc[0]), run, group))
    return Verification(str(trained.path), tuple(outcomes), *_thresholds(advice, trained, table))


def verifying(advice: Advice, run: Run) -> Specification:
    """The specification of a run with the advised configuration for its only method.

    Raises:
        RunError: If no LoRA trial of the run says how to train.
    """
    lora = _best_lora(run)
    configuration = advice.lora_config()
    method = {
        "method": "lora",
        "rank": [configuration["r"]],
        "alpha": [configuration["lora_alpha"]],
        "learning_rate": [float(lora["learning_rate"])],
        "arguments": {name: configuration[name] for name in ("target_modules", "rank_pattern", "alpha_pattern")},
    }
    given = {name: value for name, value in run.specification.items() if value not in (None, [], {})}
    return read_specification({**given, "methods": [method], "keep": "adapters", "title": "Advised ranks"})


def _best_lora(run: Run) -> "pd.Series[Any]":
    found = run.table("trials")
    found = best_configuration(found[found["method"] == "lora"])
    if found.empty:
        raise RunError(
            f"'{run.path}' has no finished LoRA trial, which would say at what learning rate to train. "
            "Add one to the sweep."
        )
    return found.iloc[0]


def _outcome(label: str, run: Run, trials: "pd.DataFrame") -> Outcome:
    means = {name: trials[name].astype(float).mean() for name in FIGURES}
    measured = run.table("forgetting")
    lost = measured[measured["trial"].isin(trials["trial"])].groupby("heldout")["forgetting"].mean()
    return Outcome(
        label,
        len(trials),
        {name: None if value != value else float(value) for name, value in means.items()},
        {str(name): value for name, value in lost.to_dict().items()},
    )


def _thresholds(advice: Advice, trained: Run, trials: "pd.DataFrame") -> tuple[int, int, int, int]:
    """Matrices with a prediction; predicted, found and agreeing: critical size against the trained spectral norm."""
    sizes = {
        matrix.name: matrix.critical.predicted * matrix.spectral
        for matrix in advice.matrices
        if matrix.critical is not None and matrix.spectral is not None
    }
    matrices = trained.table("matrices")
    mine = matrices[matrices["trial"].isin(trials["trial"]) & matrices["name"].isin(list(sizes))]
    expected = mine["update_spectral"] > mine["name"].map(sizes)
    found = mine["count"].astype(int) > 0
    return len(mine), int(expected.sum()), int(found.sum()), int((expected == found).sum())
