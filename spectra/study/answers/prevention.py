"""Question f: arms that are to keep what the base knew, beside plain LoRA, and which of them lie on the front."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from spectra.runs.study_schema import study_table
from spectra.statistics.over_units import mean_over_units
from spectra.study.answers.over_seeds import over_seeds
from spectra.study.answers.score_matching import MATCHED, interpolated
from spectra.study.comparison import Comparison, Verdict
from spectra.study.tables import StudyTables, unit_of

PLAIN = "lora"
ALIKE = "no different in any seed"  # as where a rule never takes hold
AT_OWN_RATES = "at their own validated learning rates"
FORGETTING = "forgetting of the arm minus plain LoRA"
SCORE = "test score of the arm minus plain LoRA"
COUNT = "intruder dimensions of the arm minus plain LoRA"
AT_EQUAL_SCORE = f"{FORGETTING} {MATCHED['score']}"


def prevention_comparisons(tables: StudyTables, *, level: float) -> list[Comparison]:
    """Differences of every arm to plain LoRA of the same rank and alpha, each with its interval over seeds.

    Args:
        tables: Of the study.
        level: Of all intervals of one kind together: each arm's takes its share of the allowance (Bonferroni).
    """
    lost = tables.forgetting.set_index(["trial", "heldout"])["forgetting"]
    arms = tables.chosen[tables.chosen["method"] != PLAIN]
    each = 1 - (1 - level) / max(arms["label"].nunique(), 1)
    found: list[Comparison] = []
    plain = {label: _plain_beside(tables.used, rows) for label, rows in arms.groupby("label", sort=False)}
    for heldout in tables.heldouts:
        primary, unit = heldout == tables.primary, unit_of(tables.forgetting, heldout)
        for kind, words in MATCHED.items():
            rows: list[dict[str, Any]] = []
            reasons: dict[str, list[str]] = {}
            for arm in arms.to_dict("records"):
                beside = plain[arm["label"]]
                beside = beside[beside["seed"] == arm["seed"]].sort_values("learning_rate")
                beside = beside.assign(forgetting=[lost.get((trial, heldout)) for trial in beside["trial"]])
                match = interpolated(arm, beside, kind, ("forgetting",), "plain LoRA of its rank")
                if match["reason"]:
                    reasons.setdefault(arm["label"], []).append(f"no match for seed {arm['seed']}: {match['reason']}")
                    continue
                value = _number(lost.get((arm["trial"], heldout))) - float(match["full_forgetting"])
                rows.append({"label": arm["label"], "seed": arm["seed"], "value": value})
            found += _per_arm(
                f"{FORGETTING} {words}", rows, level=each, unit=unit, heldout=heldout,
                decides=primary and kind == "score", expected=-1, reasons=reasons,
            )  # fmt: skip
        rows = _paired(
            tables.chosen, plain, lambda trial, heldout=heldout: _number(lost.get((trial["trial"], heldout)))
        )
        found += _per_arm(f"{FORGETTING} {AT_OWN_RATES}", rows, level=each, unit=unit, heldout=heldout, expected=-1)
    for column, name, what in (
        ("task_score", SCORE, "task score"),
        ("count", COUNT, "intruder dimensions"),
    ):
        rows = _paired(tables.chosen, plain, lambda trial, column=column: _number(trial[column]))
        found += _per_arm(f"{name} {AT_OWN_RATES}", rows, level=each, unit=what)
    return found


def prevention_verdict(comparisons: list[Comparison]) -> Verdict:
    """Supported by any arm, for the level is shared among them; contradicted where every arm lies on the other side."""
    said = [one.verdict for one in comparisons if one.decides]
    if "supported" in said:
        return "supported"
    if not said or all(verdict == "not enough settings" for verdict in said):
        return "not enough settings"
    return "contradicted" if set(said) == {"contradicted"} else "not distinguishable"


def front(tables: StudyTables, *, level: float) -> pd.DataFrame:
    """Score, forgetting, intruders and cost of every configuration at its chosen rate, and where it stands.

    A configuration lies on the front where no other one has both a higher mean score and a lower mean forgetting. One
    that does not is "behind" the other only if one of the two differences, paired by seed, is told from zero; else
    the two are not distinguishable.

    Args:
        tables: Of the study.
        level: Of each interval.
    """
    lost = tables.forgetting[tables.forgetting["heldout"] == tables.primary].set_index("trial")["forgetting"]
    seconds = tables.trials_of_the_sweep.set_index("trial")["train_seconds"]
    chosen = tables.chosen.assign(
        lost=[_number(lost.get(trial)) for trial in tables.chosen["trial"]],
        seconds=[_number(seconds.get(trial)) for trial in tables.chosen["trial"]],
    )
    by_label = {str(label): rows.set_index("seed") for label, rows in chosen.groupby("label", sort=False)}
    means = {label: (_mean(rows, "task_score"), _mean(rows, "lost")) for label, rows in by_label.items()}
    rows = []
    for label, own in by_label.items():
        score, forgotten = (_interval(own[name], level) for name in ("task_score", "lost"))
        rows.append(
            {
                "label": label,
                "method": own["method"].iloc[0],
                "seeds": len(own),
                "learning_rate": float(own["learning_rate"].iloc[0]),
                **{f"score{end}": value for end, value in zip(("", "_low", "_high"), score, strict=True)},
                **{f"forgetting{end}": value for end, value in zip(("", "_low", "_high"), forgotten, strict=True)},
                "count": _mean(own, "count"),
                "control_count": _mean(own, "control_count"),
                "update_relative": _mean(own, "update_relative"),
                "train_seconds": _mean(own, "seconds"),
                "stands": _standing(label, means, by_label, level),
            }
        )
    return study_table("front", rows)


def _standing(
    label: str, means: Mapping[str, tuple[float, float]], by_label: Mapping[str, pd.DataFrame], level: float
) -> str:
    """Where a configuration stands: on the front, or beside the one that is furthest ahead of it."""
    score, forgotten = means[label]
    ahead = {
        other: theirs
        for other, theirs in means.items()
        if other != label and theirs[0] >= score and theirs[1] <= forgotten and theirs != means[label]
    }
    if not ahead:
        return "on the front"
    told = [other for other in ahead if _is_told(by_label[other], by_label[label], level)]
    best = min(told or ahead, key=lambda other: means[other][1])
    return f"behind {best}" if told else f"not distinguishable from {best}"


def _is_told(ahead: pd.DataFrame, behind: pd.DataFrame, level: float) -> bool:
    """Whether one of the two differences, seed by seed, is told from zero."""
    for column in ("task_score", "lost"):
        difference = (ahead[column].astype(float) - behind[column].astype(float)).dropna().to_numpy(dtype=float)
        estimate = mean_over_units(difference, level=level).estimate
        if estimate.is_positive or estimate.is_negative:
            return True
    return False


def _plain_beside(used: pd.DataFrame, arm: pd.DataFrame) -> pd.DataFrame:
    """Plain LoRA of the arm's rank and alpha; of the first rank that there is, for an arm without."""
    plain = used[used["method"] == PLAIN]
    rank, alpha = arm["rank"].iloc[0], arm["alpha"].iloc[0]
    same = plain[(plain["rank"] == rank) & (plain["alpha"] == alpha)] if pd.notna(rank) else plain.iloc[:0]
    if same.empty and len(plain):
        same = plain[plain["label"] == plain["label"].iloc[0]]
    return same


def _paired(chosen: pd.DataFrame, plain: Mapping[Any, pd.DataFrame], figure: Any) -> list[dict[str, Any]]:
    """The figure of each arm at its chosen rate minus that of plain LoRA at its own, seed by seed."""
    rows = []
    for arm in chosen[chosen["method"] != PLAIN].to_dict("records"):
        beside = plain[arm["label"]]
        is_chosen = beside["chosen"].fillna(False).astype(bool)
        rows += [
            {"label": arm["label"], "seed": arm["seed"], "value": figure(arm) - figure(one)}
            for one in beside[is_chosen & (beside["seed"] == arm["seed"])].to_dict("records")
        ]
    return rows


def _per_arm(name: str, rows: list[dict[str, Any]], **more: Any) -> list[Comparison]:
    """A comparison per arm, also of one without a figure; the mean over arms says nothing.

    Those that decide name their arm, for verdicts quote them.
    """
    decides, reasons = more.pop("decides", False), more.pop("reasons", {})
    figures = pd.DataFrame(rows, columns=["label", "seed", "value"])
    known = set(figures["label"])
    alike = {label: ALIKE for label, values in figures.groupby("label")["value"] if decides and (values == 0).all()}
    found = [one for one in over_seeds("f", name, figures, **more) if one.over != "all" or not (known or reasons)]
    for label in reasons:
        if label not in known:
            [none] = over_seeds("f", name, figures.iloc[:0], **{**more, "note": "no figure"})
            found.append(replace(none, over=label))
    return [
        replace(
            one,
            name=f"{one.over}: {name}" if decides else name,
            decides=decides,
            note="; ".join(filter(None, [one.note, *reasons.get(one.over, [])[:1], alike.get(one.over)])),
        )
        for one in found
    ]


def _interval(values: pd.Series, level: float) -> tuple[float | None, float | None, float | None]:
    known = values.dropna().to_numpy(dtype=float)
    if not len(known):
        return None, None, None
    found = mean_over_units(known, level=level).estimate
    return float(known.mean()), *found.ends


def _mean(rows: pd.DataFrame, column: str) -> float:
    return float(rows[column].astype(float).mean())


def _number(value: Any) -> float:
    return float("nan") if value is None or pd.isna(value) else float(value)
