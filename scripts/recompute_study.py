"""Recompute what the verdicts of a study rest on, from its raw tables, with pandas and NumPy alone.

    python scripts/recompute_study.py RUN

Nothing of the package is imported: counts are summed from single vectors, full fine-tuning is interpolated, slopes and
intervals are computed here a second time, and every deciding figure is held against study/tables/comparisons.parquet.
The exit code is 1 where one differs.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

SAME = 1e-6


def main(folder: Path) -> int:
    """Compare, and print one line per figure."""
    registered = json.loads((folder / "study" / "study.json").read_text())
    verdicts = json.loads((folder / "study" / "verdicts.json").read_text())
    asked = registered["specification"]["study"]
    level = 1 - (1 - asked["level"]) / len(asked["questions"])
    trials = used_trials(folder, verdicts["bar"]["score"])
    forgetting = pd.read_parquet(folder / "tables" / "forgetting.parquet")
    primary = asked["primary"] or forgetting["heldout"].iloc[0]
    mine: dict[tuple[str, str], tuple[float, float, float] | None] = {}
    if "a" in asked["questions"]:
        mine |= question_a(trials, level)
    if "b" in asked["questions"]:
        mine |= question_b(folder, trials, level)
    if "c" in asked["questions"]:
        mine |= question_c(trials, forgetting, primary, level, asked["norm_reliability"])
    if "d" in asked["questions"]:
        mine |= question_d(folder, trials, primary, level, asked["level"])
    stored = pd.read_parquet(folder / "study" / "tables" / "comparisons.parquet")
    deciding = stored[stored["decides"].astype(bool) & (stored["question"] != "e")]
    wrong = 0
    for row in deciding.to_dict("records"):
        theirs = [row[name] for name in ("value", "low", "high")]
        found = mine.get((row["question"], row["name"]))
        if found is None or np.isnan(theirs[1]):
            agrees = found is None and np.isnan(theirs[1])
        else:
            agrees = bool(np.allclose(found, theirs, rtol=SAME, atol=SAME))
        wrong += not agrees
        print(f"{'agrees ' if agrees else 'DIFFERS'} {row['question']}  {row['name']}: {theirs} against {found}")
    print(f"{len(deciding) - wrong} of {len(deciding)} deciding figures agree.")
    return min(wrong, 1)


def used_trials(folder: Path, bar: float | None) -> pd.DataFrame:
    """Finished trials above the bar, with counts and control counts summed from single vectors."""
    trials = pd.read_parquet(folder / "tables" / "trials.parquet")
    vectors = pd.read_parquet(folder / "tables" / "vectors.parquet")
    controls = pd.read_parquet(folder / "tables" / "controls.parquet")
    left = vectors[(vectors["side"] == "left") | (vectors["side"] == "")]
    counts = left[left["is_intruder"].astype(bool)].groupby("trial").size()
    trials["counted"] = trials["trial"].map(counts).fillna(0).astype(float)
    if (trials["counted"] != trials["count"].astype(float)).any():
        print("DIFFERS    counts of the trials table are not the sum over their vectors")
    for name in ("random low rank", "dense gaussian"):
        of = controls[controls["control"] == name]
        summed = of.groupby("trial")["is_intruder"].apply(lambda flags: float(flags.astype(bool).sum()))
        trials[name] = trials["trial"].map(summed)
    trials["chance"] = trials["random low rank"].fillna(trials["dense gaussian"])
    good = (trials["status"] == "done") & trials["validation_score"].notna()
    return trials[good & ((trials["validation_score"] > bar) if bar is not None else True)]


def seeds_interval(
    rows: pd.DataFrame, level: float, least: float = 0.0, shared: float = 0.0
) -> tuple[float, float, float] | None:
    """Student's t over seed means of the configurations that have a value at every seed."""
    seeds = rows["seed"].nunique()
    kept = rows.groupby("label").filter(lambda one: one["seed"].nunique() == seeds) if len(rows) else rows
    means = kept.groupby("seed")["value"].mean() if len(kept) else pd.Series(dtype=float)
    if len(means) < 3:
        return None
    if "variance" in kept:
        least = float(np.sqrt(kept["variance"].sum()) / len(kept))
    if "shared" in kept:
        shared = float(kept["shared"].mean())
    error = np.sqrt(max(means.var(ddof=1) / len(means), least**2) + shared**2)
    if error == 0 and means.mean() != 0:
        return None
    half = stats.t.ppf((1 + level) / 2, len(means) - 1) * error
    return float(means.mean()), float(means.mean() - half), float(means.mean() + half)


def question_a(trials: pd.DataFrame, level: float) -> dict[tuple[str, str], Any]:
    """Adapters minus full fine-tuning at equal score and norm, and the same minus what their controls have."""
    found = {}
    measures = {
        "at equal validation score": lambda table: table["validation_score"].to_numpy(float),
        "at equal norm of the update": lambda table: np.log(table["update_relative"].to_numpy(float)),
    }
    adapters = trials[(trials["method"] != "full") & trials["chosen"].astype(bool)]
    for words, measure in measures.items():
        plain, beyond = [], []
        for _, one in adapters.iterrows():
            full = trials[(trials["method"] == "full") & (trials["seed"] == one["seed"])].sort_values("learning_rate")
            at, x = measure(adapters.loc[[one.name]])[0], measure(full)
            for left in range(len(x) - 1):
                low, high = sorted((x[left], x[left + 1]))
                if low <= at <= high:
                    w = 0.0 if low == high else (at - x[left]) / (x[left + 1] - x[left])
                    count, chance = (
                        (1 - w) * full[name].iloc[left] + w * full[name].iloc[left + 1]
                        for name in ("counted", "chance")
                    )
                    row = {"label": one["label"], "seed": one["seed"]}
                    variance = one["counted"] + count + 1
                    plain.append({**row, "value": one["counted"] - count, "variance": variance})
                    value = one["counted"] - count - (one["chance"] - chance)
                    beyond.append({**row, "value": value, "variance": variance + one["chance"] + chance})
                    break
        for name, rows in (
            (f"count of adapters minus full fine-tuning {words}", plain),
            (f"the same beyond the null controls {words}", beyond),
        ):
            table = pd.DataFrame(rows, columns=["label", "seed", "value", "variance"]).dropna()
            found["a", name] = seeds_interval(table, level)
    return found


def question_b(folder: Path, trials: pd.DataFrame, level: float) -> dict[tuple[str, str], Any]:
    """Slopes of the count on log2 of learning rate and of step."""
    trajectory = pd.read_parquet(folder / "tables" / "trajectory.parquet")
    chosen = trials[trials["chosen"].astype(bool)]
    along = trajectory[trajectory["step"] > 0].merge(chosen[["trial", "label", "seed"]], on="trial")
    of_rate = trials.rename(columns={"counted": "c", "learning_rate": "x"})
    of_step = along.rename(columns={"count": "c", "step": "x"})
    found = {}
    for name, table in (
        ("count with the learning rate", of_rate),
        ("count with the number of steps, along the training", of_step),
    ):
        rows = []
        for (label, seed), group in table.groupby(["label", "seed"], sort=False):
            x, c = np.log2(group["x"].to_numpy(float)), group["c"].to_numpy(float)
            if len(set(x)) > 1:
                w = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
                rows.append({"label": label, "seed": seed, "value": w @ c, "variance": w**2 @ (c + 1)})
        found["b", name] = seeds_interval(pd.DataFrame(rows, columns=["label", "seed", "value", "variance"]), level)
    return found


def question_c(
    trials: pd.DataFrame, forgetting: pd.DataFrame, primary: str, level: float, reliability: float
) -> dict[tuple[str, str], Any]:
    """The slope of forgetting on the share of intruders at equal log norm, refitted without each configuration."""
    name = "forgetting with the share of intruders at equal norm, across methods"
    table = trials.merge(forgetting[forgetting["heldout"] == primary][["trial", "forgetting"]], on="trial")
    table = table[table["update_relative"] > 0].assign(
        x=lambda one: 100 * one["counted"] / (one["matrices"] * one["k"]).astype(float),
        z=lambda one: np.log(one["update_relative"].astype(float)),
    )
    means = table.groupby(["label", "learning_rate"], sort=False)[["x", "z", "forgetting"]].mean().reset_index()
    labels = means["label"].unique()
    if len(labels) < 5 or len(means) < 12 or means["x"].std() == 0:
        return {("c", name): None}
    means["z"] = (means["z"] - means["z"].mean()) / means["z"].std(ddof=0)
    ends = []
    value = np.nan
    for noise in sorted({0.0, 1 - reliability}):
        slopes = [slope(means, noise), *(slope(means[means["label"] != label], noise) for label in labels)]
        groups = len(labels)
        error = np.sqrt((groups - 1) / groups * sum((one - slopes[0]) ** 2 for one in slopes[1:]))
        half = stats.t.ppf((1 + level) / 2, groups - 2) * error
        value = slopes[0] if noise == 0 else value
        ends.append((slopes[0] - half, slopes[0] + half))
    return {("c", name): (value, min(low for low, _ in ends), max(high for _, high in ends))}


def slope(table: pd.DataFrame, noise: float) -> float:
    """The first coefficient of the normal equations whose powers of z are corrected for noise."""
    x, y, z = (table[name].to_numpy(float) for name in ("x", "forgetting", "z"))
    z1, z2 = z.sum(), (z**2 - noise).sum()
    z3, z4 = (z**3 - 3 * noise * z).sum(), (z**4 - 6 * noise * z**2 + 3 * noise**2).sum()
    xz1, xz2 = (x * z).sum(), (x * (z**2 - noise)).sum()
    left = [[x @ x, x.sum(), xz1, xz2], [x.sum(), len(x), z1, z2], [xz1, z1, z2, z3], [xz2, z2, z3, z4]]
    return float(np.linalg.solve(left, [x @ y, y.sum(), y @ z, y @ (z**2 - noise)])[0])


def question_d(
    folder: Path, trials: pd.DataFrame, primary: str, level: float, within: float
) -> dict[tuple[str, str], Any]:
    """Forgetting under the shrink minus under removal at equal task score, over seeds."""
    name = "forgetting under shrink minus under removal of intruders at equal task score"
    files = sorted(folder.glob("trials/*/interventions/intervention_contrasts.parquet"))
    if not files:
        return {("d", name): None}
    table = pd.concat([pd.read_parquet(path) for path in files]).merge(trials[["trial", "label", "seed"]], on="trial")
    table = table[(table["heldout"] == primary) & (table["control"] == "shrink") & table["equal_score"].notna()]
    width = 2 * stats.norm.ppf((1 + within) / 2)
    table = table.assign(
        value=table["equal_score"], shared=((table["equal_score_high"] - table["equal_score_low"]) / width).fillna(0.0)
    )
    figures = table.groupby(["label", "seed"], as_index=False)[["value", "shared"]].mean()
    return {("d", name): seeds_interval(figures, level)}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
