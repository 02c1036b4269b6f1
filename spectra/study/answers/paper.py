"""The paper's findings one by one, beside what the study found: reproduced, contradicted, or not distinguishable.

Source: Shuttleworth et al., arXiv:2410.21228 v3: section 4 (counts, correlation with forgetting), section 5
    (interventions), section 6 and the appendix (effective rank, ablations). Each figure is the paper's own.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from spectra.records.pairs import adapter_rows
from spectra.statistics.interval import Estimate, interval_text
from spectra.statistics.over_units import mean_over_units
from spectra.statistics.rank_correlation import rank_correlation
from spectra.study.answers.association import settings_of
from spectra.study.tables import StudyTables

Judgement = Literal["reproduced", "contradicted", "not distinguishable", "not tried"]
LOW_RANKS = 16  # "r <= 16"
FEW = 1.0  # per cent of the vectors looked at that still count as "about 0"
SAME_SCORE = 1.0  # per cent of the task score that still counts as unchanged
PAPER_LAMBDA = 0.7


@dataclass(frozen=True)
class Sign:
    """One finding of the paper.

    Attributes:
        sign: What the paper reports.
        paper: Its figure.
        found: The figure here, in words, a count beside its control.
        value: The figure here; None where it was not tried.
        low: Lower end of its interval.
        high: Upper end.
        unit: Their unit.
        judgement: How both stand.
        note: What a reader has to know.
    """

    sign: str
    paper: str
    found: str
    value: float | None
    low: float | None
    high: float | None
    unit: str
    judgement: Judgement
    note: str = ""

    def row(self) -> dict[str, Any]:
        """A row of the table."""
        return asdict(self)


def paper_signs(tables: StudyTables, *, level: float) -> tuple[Sign, ...]:
    """Every finding of the paper that a study can hold its own figures against; intervals are over seeds."""
    return tuple(sign for of in (_counts, _correlations, _interventions, _ranks) for sign in of(tables, level))


def _counts(tables: StudyTables, level: float) -> Iterable[Sign]:
    chosen = tables.chosen[tables.chosen["count"].notna()]
    chosen = chosen.assign(share=100 * chosen["count"].astype(float) / chosen["slots"].astype(float))
    twice = chosen[(chosen["method"] == "lora") & np.isclose(chosen["alpha"] / chosen["rank"].astype(float), 2)]
    full = chosen[chosen["method"] == "full"]
    low = twice[twice["rank"] <= LOW_RANKS]
    r64 = twice[twice["rank"] == 64]
    fixed = chosen[(chosen["method"] == "lora") & (chosen["rank"] == 64) & (chosen["alpha"] == 8)]
    share = "% of the vectors looked at"
    yield _judged(
        "Full fine-tuning has about no intruder dimensions",
        "0 at every learning rate",
        _over_seeds(full, "share", level),
        share,
        lambda one: "reproduced" if one.high < FEW else "contradicted" if one.low > FEW else None,
        _beside_control(full),
        f"about none: less than {FEW:g} {share}",
    )
    yield _judged(
        "LoRA of rank 16 or less at alpha = 2r has clearly more than full fine-tuning",
        "clearly more than 0",
        _difference(low, full, "share", level),
        share,
        _above_zero,
        _beside_control(low),
    )
    yield _judged(
        "Rank 64 at alpha = 2r has fewer than the low ranks",
        "few, where low ranks have many",
        _difference(low, r64, "share", level),
        share,
        _above_zero,
        _beside_control(r64),
    )
    yield _judged(
        "Rank 64 at alpha = 8 has more than at alpha = 2r",
        "many, where alpha = 2r has few",
        _difference(fixed, r64, "share", level),
        share,
        _above_zero,
        _beside_control(fixed),
    )
    frozen = chosen[chosen["method"] == "frozen-a"]
    same_rank = chosen[(chosen["method"] == "lora") & chosen["rank"].isin(list(frozen["rank"]))]
    yield _judged(
        "Training B alone, with a frozen A of unit singular values, cuts the count",
        "sharply",
        _difference(same_rank, frozen, "share", level),
        share,
        _above_zero,
        _beside_control(frozen),
    )


def _correlations(tables: StudyTables, level: float) -> Iterable[Sign]:
    settings = settings_of(tables, tables.primary)
    clusters = np.arange(len(settings))
    found = rank_correlation(settings["share"].to_numpy(float), settings["forgetting"].to_numpy(float), clusters)
    yield _correlated(
        "The count goes with forgetting (Spearman's rho)",
        "0.971 (RoBERTa, MNLI, r = 8), 0.59 (LLaMA2)",
        found.rho, found.low, found.high, found.note, +1,
    )  # fmt: skip
    scores = tables.used.assign(share=tables.used["count"].astype(float) / tables.used["slots"].astype(float))
    means = scores.groupby(["label", "learning_rate"], sort=False)[["share", "validation_score"]].mean().dropna()
    found = rank_correlation(
        means["share"].to_numpy(float), means["validation_score"].to_numpy(float), np.arange(len(means))
    )
    yield _correlated(
        "The count does not go with the task score (Spearman's rho)",
        "-0.34 and -0.32, not shown",
        found.rho, found.low, found.high, found.note, 0,
    )  # fmt: skip


def _interventions(tables: StudyTables, level: float) -> Iterable[Sign]:
    points = tables.interventions[tables.interventions["heldout"] == tables.primary]
    points = points.merge(tables.used[["trial", "label", "seed", "method"]], on="trial")
    points = adapter_rows(points)
    tuned = points[(points["arm"] == "intruders") & (points["factor"] == 1)]
    points = points.merge(tuned[["trial", "forgetting", "task_score"]], on="trial", suffixes=("", "_before"))
    factors = sorted({factor for factor in points.loc[points["arm"] == "intruders", "factor"] if factor < 1})
    factor = min(factors, key=lambda one: abs(one - PAPER_LAMBDA)) if factors else None
    larger = min((one for one in set(points["factor"]) if one > 1), default=None)
    relative = points.assign(
        share=100 * points["change"] / points["forgetting_before"].where(points["forgetting_before"] > 0),
        score=100 * points["task_change"] / points["task_score_before"].abs(),
    )
    at = relative[(relative["arm"] == "intruders") & (relative["factor"] == factor)]
    beside = relative[(relative["arm"] == "neighbour") & (relative["factor"] == factor)]
    beyond = relative[(relative["arm"] == "intruders") & (relative["factor"] == larger)]
    note = f"lambda = {factor:g}" if factor is not None else ""
    shown = "the norm-matched shrink changes it by {:+.3g} %"
    shrink = relative[(relative["arm"] == "shrink") & (relative["factor"] == factor)]["share"].mean()
    yield _judged(
        "Scaling the top intruder of each matrix down lessens forgetting",
        "-33.2 % (QQP), -14.5 % (MNLI) at lambda 0.7",
        _negative(_over_seeds(at, "share", level)),
        "% of the forgetting mended",
        _above_zero,
        "" if pd.isna(shrink) else shown.format(shrink),
        note,
    )
    yield _judged(
        "It leaves the task score as it was",
        "0.0 % (QQP), -0.2 % (MNLI) at lambda 0.7",
        _over_seeds(at, "score", level),
        "% of the task score",
        lambda one: (
            "reproduced"
            if one.low > -SAME_SCORE and one.high < SAME_SCORE
            else "contradicted"
            if one.high < -SAME_SCORE or one.low > SAME_SCORE
            else None
        ),
        "",
        f"{note}; as it was: within {SAME_SCORE:g} %" if note else "",
    )
    yield _judged(
        "Scaling a pre-trained neighbour down raises forgetting",
        "raised",
        _over_seeds(beside, "share", level),
        "% of the forgetting",
        _above_zero,
        "",
        note,
    )
    yield _judged(
        "Scaling the intruders up raises forgetting",
        "raised at lambda 1.5",
        _over_seeds(beyond, "share", level),
        "% of the forgetting",
        _above_zero,
        "",
        f"lambda = {larger:g}" if larger is not None else "no lambda above 1 was asked for",
    )


def _ranks(tables: StudyTables, level: float) -> Iterable[Sign]:
    chosen = tables.chosen
    full, lora = chosen[chosen["method"] == "full"], chosen[chosen["method"] == "lora"]
    widest = lora[lora["rank"] == lora["rank"].max()] if len(lora) else lora
    yield _judged(
        "The update of full fine-tuning has a higher effective rank than that of LoRA of any rank",
        "above 400, where r = 768 has above 100",
        _difference(full, widest, "effective_rank", level),
        "effective rank (full minus LoRA of the largest rank)",
        _above_zero,
    )


def _over_seeds(rows: pd.DataFrame, column: str, level: float) -> Estimate | None:
    """The mean of a column over configurations and then seeds; None without rows."""
    known = rows.dropna(subset=[column]) if len(rows) else rows
    if len(known) == 0:
        return None
    by_seed = known.groupby("seed")[column].mean().to_numpy(dtype=float)
    if len(by_seed) > 2 and np.ptp(by_seed) == 0:
        value = float(by_seed[0])  # such as no intruder in any seed
        return Estimate(value, value, value, method="the same in all seeds")
    return mean_over_units(by_seed, level=level).estimate


def _difference(first: pd.DataFrame, second: pd.DataFrame, column: str, level: float) -> Estimate | None:
    """First minus second, seed by seed."""
    if not len(first) or not len(second):
        return None
    means = [rows.groupby("seed")[column].mean() for rows in (first, second)]
    both = (means[0] - means[1]).dropna().rename(column).reset_index()
    return _over_seeds(both, column, level)


def _negative(estimate: Estimate | None) -> Estimate | None:
    return None if estimate is None else estimate.negated()


def _above_zero(one: Estimate) -> Judgement | None:
    return "reproduced" if one.low > 0 else "contradicted" if one.high < 0 else None


def _judged(
    sign: str,
    paper: str,
    estimate: Estimate | None,
    unit: str,
    judge: Callable[[Estimate], Judgement | None],
    beside: str = "",
    note: str = "",
) -> Sign:
    """A sign with what was found; not tried where there is no figure."""
    if estimate is None or math.isnan(estimate.value):
        return Sign(sign, paper, "", None, None, None, unit, "not tried", note)
    low, high = estimate.ends
    judgement = "not distinguishable" if estimate.cannot_tell else judge(estimate) or "not distinguishable"
    words = f"{estimate.value:+.3g} {interval_text(low, high, '+.3g')} {unit}" + (f"; {beside}" if beside else "")
    notes = "; ".join(part for part in (note, estimate.cannot_tell) if part)
    return Sign(sign, paper, words, estimate.value, low, high, unit, judgement, notes)


def _correlated(
    sign: str, paper: str, rho: float | None, low: float | None, high: float | None, note: str, expected: int
) -> Sign:
    if rho is None:
        return Sign(sign, paper, "", None, None, None, "Spearman's rho", "not tried", note)
    words = f"{rho:+.3g} {interval_text(low, high, '+.3g')} over settings"
    if low is None or high is None:
        return Sign(sign, paper, words, rho, low, high, "Spearman's rho", "not distinguishable", note)
    if expected:
        judgement: Judgement = "reproduced" if low > 0 else "contradicted" if high < 0 else "not distinguishable"
    else:
        judgement = "not distinguishable" if low <= 0 <= high else "contradicted"
        note = "the paper shows no correlation; an interval around zero is no proof of none"
    return Sign(sign, paper, words, rho, low, high, "Spearman's rho", judgement, note)


def _beside_control(rows: pd.DataFrame) -> str:
    """The mean count beside that of the null control."""
    if rows.empty:
        return ""
    count, control = rows["count"].mean(), rows["control_count"].mean()
    random = "dense noise of equal norm" if adapter_rows(rows).empty else "random updates of equal norm and rank"
    told = f"{count:.3g} intruder dimensions"
    return told if pd.isna(control) else f"{told}, where {random} have {control:.3g}"
