"""A sweep whose grids of learning rates grow until every best rate has a neighbour on either side."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectra.advice.rates import longer
from spectra.runs import Run
from spectra.sweep import Specification, run_sweep
from spectra.sweep.execution.schedule import OnEvent
from spectra.sweep.spec.plan import plan
from spectra.sweep.sweep import Executor
from spectra.sweep.trial.learning_rate_selection import best_configuration

if TYPE_CHECKING:
    import pandas as pd

Rates = Mapping[str, Sequence[float]]  # by method


@dataclass(frozen=True, eq=False)
class Bracketed:
    """What was trained.

    Attributes:
        run: The run folder.
        trials: Its trials of these specifications, as rows of the table: a folder may hold others.
        rates: The rates that were tried, by method.
    """

    run: Run
    trials: "pd.DataFrame"
    rates: Rates

    def of(self, method: str) -> "pd.DataFrame":
        """All trials of a method."""
        return self.trials[self.trials["method"] == method]

    def best(self, method: str) -> "pd.DataFrame":
        """The trials of a method at the rate that the validation split chose; none where every rate failed."""
        return best_configuration(self.of(method))

    def middle(self, method: str) -> float | None:
        """The rate with the best mean validation score; of equal ones that nearest to the middle of the grid."""
        scores = {rate: self.score(method, rate) for rate in sorted(self.rates[method])}
        known = {rate: score for rate, score in scores.items() if score is not None}
        if not known:
            return None
        tried = list(scores)
        best = [rate for rate, score in known.items() if score == max(known.values())]
        return min(best, key=lambda rate: (abs(tried.index(rate) - (len(tried) - 1) / 2), rate))

    def score(self, method: str, rate: float) -> float | None:
        """Mean validation score over the seeds; None where every training failed."""
        mine = self.of(method)
        known = mine[mine["learning_rate"] == rate]["validation_score"].dropna().astype(float)
        return float(known.mean()) if len(known) else None


def bracketed(
    specify: Callable[[Rates], Specification],
    rates: Rates,
    out: str | Path,
    *,
    executor: Executor = "local",
    on_event: OnEvent = lambda event: None,
    command: str = "",
) -> Bracketed:
    """Train at the rates, and at further ones where the best validation score stands at an end of a grid.

    The test split and what is held out take no part in it. A second call trains nothing again.

    Args:
        specify: The sweep of given rates.
        rates: Where each grid begins.
        out: The run folder.
        executor: As `run_sweep` takes it.
        on_event: Called with every event of the sweeps.
        command: The command line, for the record.
    """
    rates = _with_those_there(specify, rates, Path(out))
    while True:
        specification = specify(rates)
        run = run_sweep(specification, out, executor=executor, on_event=on_event, command=command)
        table: Any = run.table("trials")
        found = Bracketed(run, table[table["trial"].isin([trial.id for trial in plan(specification)])], rates)
        wider = {
            method: longer(own, float(best["learning_rate"].iloc[0]))
            if len(best := found.best(method))
            else sorted(own)
            for method, own in rates.items()
        }
        if wider == {method: sorted(own) for method, own in rates.items()}:
            return found
        rates = wider


def _with_those_there(specify: Callable[[Rates], Specification], rates: Rates, out: Path) -> Rates:
    """The rates with those that an earlier call added to the grids of the same configurations."""
    if not (out / "sweep.json").is_file():
        return rates
    methods = {one.group: one.training.method for one in plan(specify(rates)) if one.training is not None}
    found = {method: set(own) for method, own in rates.items()}
    for trial in Run.open(out).trials():
        known = trial.settings or {}
        method = methods.get(str(known.get("group")))
        if method is not None:
            found[method].add(float(known["specification"]["learning_rate"]))
    return {method: sorted(own) for method, own in found.items()}
