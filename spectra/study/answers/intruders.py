"""Question a: adapters beside full fine-tuning at equal score, at equal norm, and beyond the null controls."""

from collections.abc import Mapping, Sequence

import pandas as pd

from spectra.records.naming import trains_all_weights
from spectra.records.pairs import adapter_rows
from spectra.runs.study_schema import study_table
from spectra.study.answers.over_seeds import over_seeds
from spectra.study.answers.score_matching import MATCHED, interpolated
from spectra.study.comparison import Comparison
from spectra.study.tables import StudyTables

UNIT = "intruder dimensions"
FIGURES = ("count", "control_count")


def matched(tables: StudyTables) -> pd.DataFrame:
    """Every adapter at its chosen learning rate, beside full fine-tuning of the same seed interpolated to it."""
    used = tables.used
    used = used[used["count"].notna()]
    by_seed = {seed: rows.sort_values("learning_rate") for seed, rows in used[used["method"] == "full"].groupby("seed")}
    none = used.iloc[:0]
    adapters = adapter_rows(tables.chosen[tables.chosen["count"].notna()])
    rows = [
        {
            **{name: adapter[name] for name in ("trial", "label", "seed", *FIGURES)},
            "matched_on": kind,
            **interpolated(adapter, by_seed.get(adapter["seed"], none), kind, FIGURES),
        }
        for adapter in adapters.to_dict("records")
        for kind in MATCHED
    ]
    return study_table("matches", rows)


def intruder_comparisons(matches: pd.DataFrame, *, level: float) -> list[Comparison]:
    """The four differences that decide, and those of every configuration."""
    found: list[Comparison] = []
    for kind, words in MATCHED.items():
        rows = matches[(matches["matched_on"] == kind) & (matches["reason"] == "")]
        lost = matches[(matches["matched_on"] == kind) & (matches["reason"] != "")]
        note = _without_match(lost)
        difference = rows["count"] - rows["full_count"]
        chance = rows["control_count"] - rows["full_control_count"]
        counts = rows["count"] + rows["full_count"] + 1.0
        both = counts + rows["control_count"] + rows["full_control_count"]
        for name, value, variance in (
            (f"count of adapters minus full fine-tuning {words}", difference, counts),
            (f"the same beyond the null controls {words}", difference - chance, both),
        ):
            figures = rows[["label", "seed"]].assign(value=value.astype(float), variance=variance.astype(float))
            details = _means(rows)
            found += over_seeds(
                "a", name, figures, level=level, unit=UNIT, decides=True, expected=1, note=note, details=details
            )
    return found


def _means(rows: pd.DataFrame) -> Mapping[str, float]:
    """The mean counts behind a difference, each beside its control."""
    names = ("count", "control_count", "full_count", "full_control_count")
    return {name: float(rows[name].mean()) for name in names if rows[name].notna().any()}


def _without_match(lost: pd.DataFrame) -> str:
    if lost.empty:
        return ""
    reasons = lost.groupby("reason", sort=False)["label"].agg(lambda labels: ", ".join(dict.fromkeys(labels)))
    return "; ".join(f"no match for {labels}: {reason}" for reason, labels in reasons.items())


def headline(trials: pd.DataFrame) -> Sequence[str]:
    """One sentence per configuration: its count beside that of its null control."""
    told = []
    for label, rows in trials.groupby("label", sort=False):
        count, control = rows["count"].mean(), rows["control_count"].mean()
        beside = (
            "no control was made" if pd.isna(control) else f"a random update of equal norm and rank has {control:.3g}"
        )
        if trains_all_weights(rows["method"].iloc[0]) and not pd.isna(control):
            beside = f"dense noise of equal norm has {control:.3g}"
        slots = int(rows["slots"].max())
        told.append(f"{label}: {count:.3g} of {slots} (mean over {len(rows)} seeds), where {beside}")
    return told
