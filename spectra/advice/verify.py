"""`verify`: train what was advised, as the run it came from was trained, and hold the outcome against the advice."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectra.advice.records import FIGURES, Advice, Outcome, Verification
from spectra.errors import RunError
from spectra.runs import Run
from spectra.sweep import Specification, read_specification, run_sweep
from spectra.sweep.execution.schedule import OnEvent
from spectra.sweep.spec.plan import plan
from spectra.sweep.sweep import Executor
from spectra.sweep.trial.learning_rate_selection import best_configuration

if TYPE_CHECKING:
    import pandas as pd

COMPARED = ("full", "lora")  # methods of the run that the outcome stands beside


def verify_advice(
    advice: Advice,
    source: str | Path,
    out: str | Path,
    *,
    executor: Executor = "local",
    on_event: OnEvent = lambda event: None,
    command: str = "",
) -> Advice:
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

    Returns:
        The advice with its verification: the outcome beside the run's own configurations.

    Raises:
        RunError: If the source is no run folder, or no LoRA trial says how to train.

    Example:
        >>> advice = spectra.advise(run, k=4, draws=1, measure=False)
        >>> trained = spectra.verify_advice(advice, run, folder / "advised", executor="inline")
        >>> [outcome.label for outcome in trained.verification.outcomes]
        ['advised', 'LoRA r=2 α=4']
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
    found = Verification(str(trained.path), tuple(outcomes), *_thresholds(advice, trained, table))
    return replace(advice, verification=found)


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
