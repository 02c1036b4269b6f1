"""What an intervention found: plain numbers per arm, lambda and held-out task, the contrasts and the verdict."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from spectra.records.verdicts import html_table
from spectra.runs.schema import tidy
from spectra.statistics.interval import interval_text

if TYPE_CHECKING:
    import pandas as pd

Verdict = Literal["intruders", "control", "trade-off", "not distinguishable", "nothing forgotten", "cannot tell"]


@dataclass(frozen=True)
class InterventionRow:
    """One arm at one lambda on one held-out task; the columns of `spectra.runs.schema.INTERVENTIONS` say what is what.

    Figures of the task are None where no task was given, and an end of an interval where there is none.
    """

    trial: str
    checkpoint: str
    arm: str
    factor: float
    edited_matrices: int
    directions: int | None
    edit_norm: float
    update_norm: float
    update_share: float
    heldout: str
    metric: str
    unit: str
    n: int
    base: float
    tuned: float
    forgetting: float
    low: float | None
    high: float | None
    change: float
    change_low: float | None
    change_high: float | None
    score_name: str
    score: float
    task: str = ""
    task_metric: str = ""
    task_n: int | None = None
    task_score: float | None = None
    task_change: float | None = None
    task_change_low: float | None = None
    task_change_high: float | None = None


@dataclass(frozen=True)
class Contrast:
    """The intruder arm against one control on one held-out task; see `schema.INTERVENTION_CONTRASTS`."""

    trial: str
    checkpoint: str
    control: str
    heldout: str
    unit: str
    n: int
    from_factor: float
    forgetting_area: float
    forgetting_low: float | None
    forgetting_high: float | None
    verdict: Verdict
    sentence: str
    task: str = ""
    task_n: int | None = None
    task_area: float | None = None
    task_low: float | None = None
    task_high: float | None = None
    equal_score: float | None = None
    equal_score_low: float | None = None
    equal_score_high: float | None = None


@dataclass(frozen=True)
class InterventionRun:
    """Every arm at every lambda on every task.

    Attributes:
        checkpoint: The tuned checkpoint as it was named.
        base: Its base as it was named.
        trial: Identity of its trial in a run folder, or "".
        select: Which intruders were treated.
        share: Of their energy, for the selection "energy".
        k: Leading vectors looked at per matrix.
        epsilon: Cosine below which a vector counts.
        count: Intruder dimensions of the checkpoint.
        matrices: Scanned matrices.
        directions: Treated directions.
        treated: Names of the treated matrices.
        lambdas: Factors asked for, 1 included, increasing.
        seed: Of random controls and of the bootstrap.
        level: Of the intervals.
        resamples: Of the bootstrap.
        rows: The points.
        contrasts: The areas between the intruder arm and each control.
        left_out: For each control that could not be built, the reason.
        missing: Points (arm, lambda) that are not measured yet: empty unless it was interrupted.
        warnings: Sentences that a reader has to know.
        versions: Versions of the software.
    """

    checkpoint: str
    base: str
    trial: str
    select: str
    share: float
    k: int
    epsilon: float
    count: int
    matrices: int
    directions: int
    treated: tuple[str, ...]
    lambdas: tuple[float, ...]
    seed: int
    level: float
    resamples: int
    rows: tuple[InterventionRow, ...]
    contrasts: tuple[Contrast, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[tuple[str, float], ...] = ()
    warnings: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def verdicts(self) -> Mapping[str, str]:
        """One sentence per held-out task: the intruder arm against the norm-matched shrink."""
        return {one.heldout: one.sentence for one in self.contrasts if one.control == "shrink"}

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of `spectra intervene`."""
        return {**asdict(self), "verdicts": dict(self.verdicts)}

    def to_dataframe(self, rows: Literal["points", "contrasts"] = "points") -> "pd.DataFrame":
        """The documented table of points (one row per arm, lambda and held-out task) or of contrasts."""
        if rows == "points":
            return tidy("interventions", map(asdict, self.rows))
        return tidy("intervention_contrasts", map(asdict, self.contrasts))

    def _repr_html_(self) -> str:
        """The points and the verdicts, for notebooks."""
        caption = (
            f"{self.checkpoint}: {self.directions} of {self.count} intruder dimensions scaled in {len(self.treated)} "
            f"of {self.matrices} matrices"
        )
        headings = ("held-out task", "arm", "lambda", "norm left", "task score", "forgetting", "interval")
        return html_table(caption, headings, map(_cells, self.rows), [*self.verdicts.values(), *self.warnings])


def _cells(row: InterventionRow) -> tuple[str, ...]:
    return (
        row.heldout,
        row.arm,
        f"{row.factor:g}",
        f"{100 * row.update_share:.1f} %",
        "" if row.task_score is None else f"{row.task_score:.4g}",
        f"{row.forgetting:+.4g}",
        interval_text(row.low, row.high),
    )
