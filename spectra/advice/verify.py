"""`verify`: train what was advised, as the run it came from was trained, and hold the outcome against the advice."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from spectra.advice.bracketing import bracketed
from spectra.advice.rates import carried_over, grid
from spectra.advice.records import FIGURES, Advice, Outcome, TriedRate, Verification
from spectra.errors import RunError
from spectra.runs import Run
from spectra.sweep import Specification, read_specification
from spectra.sweep.execution.schedule import OnEvent
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
    """Train the advised configuration on the specification of the run that it came from, at a grid of learning rates.

    Everything but method, modules, rank, alpha and rate stays: base, task, steps, seeds. The grid stands around the
    rate of the run's best LoRA configuration, carried over to the advised ranks and alphas, and is made longer until
    the rate with the best validation score has a neighbour on either side. Neither the test split nor what is held
    out takes part in the choice.

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
        RunError: If the source is no run folder, no LoRA trial says how to train, or no rate could be trained at.

    Example:
        >>> advice = spectra.advise(run, k=4, draws=1, measure=False)
        >>> trained = spectra.verify_advice(advice, run, folder / "advised", executor="inline")
        >>> [outcome.label for outcome in trained.verification.outcomes]
        ['advised', 'LoRA r=2 α=4']
    """
    run = Run.open(source)
    trials = run.table("trials")
    tried = bracketed(
        lambda rates: verifying(advice, run, rates["lora"]),
        {"lora": verified_rates(advice, run)},
        out,
        executor=executor,
        on_event=on_event,
        command=command,
    )
    best, trained = tried.best("lora"), tried.run
    if best.empty:
        raise RunError(
            f"Training the advised configuration failed at every rate: {tried.trials['error'].iloc[0]}. "
            f"See '{trained.path}'."
        )
    outcomes = [_outcome("advised", trained, best)]
    for method in COMPARED:
        group = best_configuration(trials[trials["method"] == method])
        if len(group):
            outcomes.append(_outcome(str(group["label"].iloc[0]), run, group))
    rates = tuple(TriedRate(rate, tried.score("lora", rate)) for rate in tried.rates["lora"])
    found = Verification(str(trained.path), tuple(outcomes), *_thresholds(advice, trained, best), rates)
    return replace(advice, verification=found)


def verified_rates(advice: Advice, run: Run) -> list[float]:
    """The rates that a verification begins with: those around the run's best one, carried over to the advice.

    Raises:
        RunError: If no LoRA trial of the run says how to train.
    """
    lora = _best_lora(run)
    scaling = float(lora["scaling"]) if lora["scaling"] == lora["scaling"] else float(lora["alpha"]) / int(lora["rank"])
    # One rate serves all matrices: that of the typical one.
    rank = round(median(matrix.rank for matrix in advice.matrices))
    alpha = median(matrix.alpha for matrix in advice.matrices)
    return grid(carried_over(float(lora["learning_rate"]), (scaling, int(lora["rank"])), (alpha / rank, rank)))


def verifying(advice: Advice, run: Run, rates: Sequence[float] = ()) -> Specification:
    """The specification of a run with the advised configuration for its only method.

    Args:
        advice: What is advised.
        run: The run that it came from.
        rates: Learning rates; none: those of `verified_rates`.

    Raises:
        RunError: If no LoRA trial of the run says how to train.
    """
    method = {"method": "lora", **advice.method_fields(), "learning_rate": list(rates) or verified_rates(advice, run)}
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


def _mean(values: "pd.Series[Any]") -> float | None:
    known = values.dropna().astype(float)
    return float(known.mean()) if len(known) else None


def _outcome(label: str, run: Run, trials: "pd.DataFrame") -> Outcome:
    means = {name: _mean(trials[name]) for name in FIGURES}
    measured = run.table("forgetting")
    lost = measured[measured["trial"].isin(trials["trial"])].groupby("heldout")["forgetting"].mean()
    return Outcome(
        label,
        len(trials),
        means,
        {str(name): value for name, value in lost.to_dict().items()},
    )


def _thresholds(advice: Advice, trained: Run, trials: "pd.DataFrame") -> tuple[int, int, int, int]:
    """Matrices with a prediction; predicted, found and agreeing: critical size against the trained spectral norm."""
    known = ((matrix.name, matrix.critical_sizes) for matrix in advice.matrices)
    sizes = {name: critical.predicted for name, critical in known if critical is not None}
    matrices = trained.table("matrices")
    mine = matrices[matrices["trial"].isin(trials["trial"]) & matrices["name"].isin(list(sizes))]
    expected = mine["update_spectral"] > mine["name"].map(sizes)
    found = mine["count"].astype(int) > 0
    return len(mine), int(expected.sum()), int(found.sum()), int((expected == found).sum())
