"""Sentences on what was forgotten: how much, at which task score, and what goes with it."""

import math
from typing import TYPE_CHECKING

from spectra.errors import first_five
from spectra.records.pairs import adapter_rows
from spectra.report.inputs.material import Material
from spectra.report.tables import numbers
from spectra.report.tables.statistics import Association, association
from spectra.report.text.phrases import groups, highest, lowest, over_seeds
from spectra.statistics.rank_correlation import FEWEST_CLUSTERS

if TYPE_CHECKING:
    import pandas as pd


def forgetting_findings(material: Material, rows: "pd.DataFrame") -> list[str]:
    """How much of one held-out task was forgotten, and whether without intruders."""
    table = material.telling.merge(rows, on="trial")
    if table.empty:
        return []
    first = table.iloc[0]
    unit = first["unit"]
    measured = f"{first['metric']}, {numbers.count(first['n'])} examples"
    forgot = table[(table["low"] > 0).fillna(False).astype(bool)]
    untold = table[table["finding"] == "cannot tell"]
    if len(untold) == len(table):
        return [f"It cannot be told whether any trial forgot ({measured}): {_reasons(untold)}."]
    if forgot.empty:
        most = highest(table, "forgetting")
        return [
            f"No trial forgot beyond its 95 % interval ({measured}); the most is {_amount(most, unit)} "
            f"({most['label']}).",
            *_untold(untold, len(table)),
        ]
    least, most = lowest(forgot, "forgetting"), highest(forgot, "forgetting")
    span = (
        f"{most['label']} {_amount(most, unit)}"
        if len(forgot) == 1
        else f"from {_amount(least, unit)} ({least['label']}) to {_amount(most, unit)} ({most['label']})"
    )
    return [
        f"{len(forgot)} of {len(table)} trials forgot, their 95 % interval above zero ({measured}): {span}.",
        *_untold(untold, len(table)),
        *_forgetting_without_intruders(forgot, unit),
    ]


def _untold(untold: "pd.DataFrame", trials: int) -> list[str]:
    """Trials of which the examples do not tell."""
    return [f"Of {len(untold)} of {trials} trials it cannot be told: {_reasons(untold)}."] if len(untold) else []


def _reasons(untold: "pd.DataFrame") -> str:
    return first_five(sorted(set(untold["cannot_tell"])))


def _forgetting_without_intruders(forgot: "pd.DataFrame", unit: str) -> list[str]:
    """The plain statement that forgetting does not need intruders, where the data show it."""
    without = forgot[forgot["count"] == 0]
    if without.empty:
        return []
    if len(without) == len(forgot):
        return ["Forgetting happened without a single intruder dimension."]
    worst = highest(without, "forgetting")
    return [
        f"Forgetting happened without intruder dimensions in {len(without)} of these {len(forgot)} trials, at most "
        f"{_amount(worst, unit)} ({worst['label']})."
    ]


def _amount(row: "pd.Series", unit: str) -> str:
    """Forgetting with its unit and its interval."""
    return f"{numbers.signed(row['forgetting'])} {unit} {numbers.interval(row['low'], row['high'])}"


def equal_score_findings(material: Material, rows: "pd.DataFrame") -> list[str]:
    """LoRA against full fine-tuning where their mean task scores are closest: who forgot more."""
    table = material.telling.merge(rows, on="trial")
    table = table[table["task_score"].notna()]
    full = table[table["method"] == "full"]
    low_rank = groups(adapter_rows(table))
    if full.empty or not low_rank:
        return []
    full_score = float(full["task_score"].mean())
    label, closest = min(low_rank, key=lambda group: abs(float(group[1]["task_score"].mean()) - full_score))
    score = float(closest["task_score"].mean())
    difference = float(closest["forgetting"].mean() - full["forgetting"].mean())
    unit = table.iloc[0]["unit"]
    (low, high), (full_low, full_high) = _spread(closest), _spread(full)
    overlap = "overlap" if low <= full_high and full_low <= high else "do not overlap"
    kind = "intervals" if len(closest) == len(full) == 1 else "ranges over seeds"
    equal = "At equal task score" if abs(score - full_score) < 5e-4 else "Where task scores are closest"
    scores = f"{label} {numbers.decimal(score)}, full {numbers.decimal(full_score)} {table.iloc[0]['task_metric']}"
    return [
        f"{equal} ({scores}{over_seeds(table)}), {label} forgets {numbers.decimal(abs(difference))} {unit} "
        f"{'more' if difference >= 0 else 'less'}: {numbers.signed(closest['forgetting'].mean())} {unit} "
        f"{numbers.interval(low, high)} against {numbers.signed(full['forgetting'].mean())} "
        f"{numbers.interval(full_low, full_high)}; the two {kind} {overlap}."
    ]


def _spread(group: "pd.DataFrame") -> tuple[float, float]:
    """Forgetting of one configuration: its interval for a single seed, its range over several."""
    if len(group) == 1:
        low, high = group["low"].iloc[0], group["high"].iloc[0]
        return -math.inf if numbers.absent(low) else float(low), math.inf if numbers.absent(high) else float(high)
    return float(group["forgetting"].min()), float(group["forgetting"].max())


def association_findings(material: Material, rows: "pd.DataFrame") -> list[str]:
    """Whether intruder counts and update norms rank the trials as forgetting does, and which keeps its part."""
    done = material.done
    table = rows[["trial", "forgetting"]].merge(done[material.beaten(done)], on="trial")
    heldout = str(rows["heldout"].iloc[0])
    by_count = association(table, heldout, "count")
    by_norm = association(table, heldout, "update_relative")
    if by_norm.settings < FEWEST_CLUSTERS:
        return [
            f"With {by_norm.settings} settings there is no telling what the forgetting goes with: a rank correlation "
            f"needs {FEWEST_CLUSTERS}."
        ]
    if by_count.rho is None and by_norm.rho is None:
        return []
    over = f"Over {by_norm.trials or by_count.trials} trials"
    said = [
        f"{over}, the forgetting has Spearman's ρ {_rho(by_count)} with the intruder count, and {_rho(by_norm)} with "
        "the update's norm."
    ]
    if by_count.low is not None and by_norm.low is not None:
        given_norm = association(table, heldout, "count", controlling_for="update_relative")
        given_count = association(table, heldout, "update_relative", controlling_for="count")
        said.append(
            f"With the norm held fixed, the count keeps {_rho(given_norm)}; with the count held fixed, the norm keeps "
            f"{_rho(given_count)}."
        )
    return said


def _rho(row: Association) -> str:
    """A coefficient with its interval and what that says, or why there is none."""
    if row.rho is None:
        return f"undefined ({row.note})"
    if row.low is None or row.high is None:
        return f"{numbers.signed(row.rho, 2)} ({row.note})"
    spans = " (the interval spans zero)" if row.low <= 0 <= row.high else ""
    return f"{numbers.signed(row.rho, 2)} {numbers.interval(row.low, row.high, 2)}{spans}"
