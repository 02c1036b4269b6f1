"""Hold plans against sweeps that ended:  python scripts/check_plan.py [RUN ...] [--pilots FOLDER] [--write]

For every run folder a pilot is trained on its base, task and recipe (kept in FOLDER), and each of its LoRA and full
trials is foretold from the pilot. The laws of `spectra.advice.planning` are fitted to the bases of the other runs, so
that no forecast has seen the base it speaks of; the laws fitted to all are printed last. Two runs of one base count as
one. --write makes reports/plan_calibration.md.
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spectra.advice.advise import AdviceSettings
from spectra.advice.planning import expectations as laws
from spectra.advice.planning.derivation import planned_from
from spectra.advice.planning.expectations import Expectations, expectations
from spectra.advice.planning.forecast import LEVEL, NORMAL, WIDTH, Law, expected_above, interpolated
from spectra.advice.planning.pilot import Pilot, PilotSettings, run_pilot
from spectra.advice.planning.records import TrainingPlan
from spectra.advice.ranks import RankRule
from spectra.advice.rates import carried_over, reach
from spectra.runs import Run
from spectra.scanning.settings import ScanSettings

REPORT = Path("reports/plan_calibration.md")
RUNS = ("reports/study/run", "reports/demo/run", "reports/prevention/run")
RECIPE = ("batch_size", "max_length", "precision", "head_learning_rate", "train_examples", "validation_examples")
KNOWN = ("lora", "rslora", "full")
FEW = {"train_examples": 40, "validation_examples": 5}
TOLERANCES = (0.1, 0.5, 1.0)
LEAST = 0.05  # standard deviation that no fit goes below
DRAWS = 9


@dataclass(frozen=True)
class Case:
    """One run with its pilot."""

    name: str
    base: str
    run: Run
    pilot: Pilot
    plan: TrainingPlan
    expected: Expectations
    steps: int

    def trials(self) -> pd.DataFrame:
        """The finished trials of methods that a plan speaks of."""
        table = self.run.table("trials")
        return table[(table["status"] == "done") & table["method"].isin(KNOWN)]


def opened(path: Path, pilots: Path) -> Case:
    """Train the pilot of a run, or take it up again."""
    run = Run.open(path)
    given = run.specification
    held = [
        {name: value for name, value in one.items() if value is not None} if isinstance(one, dict) else one
        for one in given["heldout"]
    ]
    recipe = {name: given[name] for name in RECIPE if given.get(name) is not None}
    # A pilot of some steps sees few texts; of long ones most time would go into reading more.
    recipe = {name: min(value, FEW[name]) if name in FEW else value for name, value in recipe.items()}
    name = str(path.resolve().parent.name if path.name == "run" else path.name)
    settings = PilotSettings(given["base"], given["task"], tuple(held), recipe=recipe)
    pilot = run_pilot(settings, pilots / name, executor="inline")
    asked = AdviceSettings(
        rule=RankRule(0.9, 64), draws=DRAWS, measure=False, own=False, scan=ScanSettings(k=given["k"])
    )
    plan = planned_from(pilot, asked, steps=given["steps"], tolerance=TOLERANCES[0])
    return Case(name, given["base"], run, pilot, plan, expectations(pilot, given["steps"]), given["steps"])


def points(case: Case) -> Iterator[dict[str, Any]]:
    """One row per trial and matrix, and per trial and held-out task: what the pilot had at this rate, what came."""
    critical = {one.name: one.critical for one in case.plan.matrices}
    matrices, forgetting = case.run.table("matrices"), case.run.table("forgetting")
    for trial in case.trials().to_dict("records"):
        method = "full" if trial["method"] == "full" else "lora"
        rank = 1 if method == "full" else int(trial["rank"])
        rate = float(trial["learning_rate"])
        at = rate if method == "full" else reach(rate, float(trial["scaling"]), rank)
        shared = {
            "case": case.name, "base": case.base, "trial": trial["trial"], "method": method, "rate": rate,
            "log_steps": math.log(case.expected.longer),
            "log_rank": 0.0 if method == "full" else math.log(rank / case.expected.rank),
        }  # fmt: skip
        for row in matrices[matrices["trial"] == trial["trial"]].to_dict("records"):
            known = case.expected.sizes.get(method, {}).get(row["name"])
            if known and critical.get(row["name"]) and row["update_spectral"] > 0:
                yield {
                    **shared, "kind": "size", "what": row["name"],
                    "pilot": math.log(interpolated(known, at)),
                    "outcome": math.log(row["update_spectral"]), "limit": math.log(critical[row["name"]]),
                    "intruder": bool(row["count"] > 0),
                }  # fmt: skip
        for row in forgetting[forgetting["trial"] == trial["trial"]].to_dict("records"):
            known = case.expected.lost.get(method, {}).get(row["heldout"])
            if known and row["forgetting"] > 0:
                yield {
                    **shared, "kind": "forgetting", "what": row["heldout"],
                    "pilot": math.log(interpolated(known, at)),
                    "outcome": math.log(row["forgetting"]),
                }  # fmt: skip


def fitted(rows: pd.DataFrame) -> Law:
    """growth and by_rank by least squares over trials; then the two parts of the error."""
    missing = rows["outcome"] - rows["pilot"]
    means = (
        rows.assign(missing=missing)
        .groupby(["case", "trial"], as_index=False)[["missing", "log_steps", "log_rank"]]
        .mean()
    )
    ranks = means["log_rank"].nunique() > 1
    design = means[["log_steps", "log_rank"]] if ranks else means[["log_steps"]]
    found = np.linalg.lstsq(design.to_numpy(float), means["missing"].to_numpy(float), rcond=None)[0]
    growth, by_rank = float(found[0]), float(found[1]) if ranks else 0.0
    left = missing - growth * rows["log_steps"] - by_rank * rows["log_rank"]
    shared = left.groupby([rows["case"], rows["trial"]]).transform("mean")
    return Law(
        round(growth, 3), round(by_rank, 3), 0.0,
        round(max(float(shared.groupby([rows["case"], rows["trial"]]).first().std(ddof=0)), LEAST), 3),
        round(max(float((left - shared).std(ddof=0)), LEAST), 3),
    )  # fmt: skip


def risk_law(rows: pd.DataFrame, size: Law) -> Law:
    """Offset and error of  P(intruder) = Phi((log size - log critical + offset) / error),  by likelihood."""
    distance = (grown(rows, size) - rows["limit"]).to_numpy(float)
    came = rows["intruder"].to_numpy(bool)
    best, found = -math.inf, (0.0, size.error)
    for offset in np.arange(-1.5, 1.51, 0.05):
        for error in np.arange(0.1, 2.01, 0.05):
            p = np.clip([NORMAL.cdf(x) for x in (distance + offset) / error], 1e-4, 1 - 1e-4)
            likelihood = float(np.where(came, np.log(p), np.log(1 - p)).sum())
            if likelihood > best:
                best, found = likelihood, (float(offset), float(error))
    offset, error = found
    shared = min(size.shared, 0.95 * error)
    return Law(0.0, 0.0, round(offset, 3), round(shared, 3), round(math.sqrt(error**2 - shared**2), 3))


def grown(rows: pd.DataFrame, law: Law) -> pd.Series:
    """Logarithms of what is expected at the end."""
    return rows["pilot"] + law.growth * rows["log_steps"] + law.by_rank * rows["log_rank"] + law.offset


def chances(distance: Sequence[float], error: float) -> np.ndarray:
    """Normal probabilities."""
    return np.array([NORMAL.cdf(one / error) for one in distance])


def brier(p: np.ndarray, came: np.ndarray) -> float:
    """Mean squared difference of probability and outcome."""
    return float(((p - came) ** 2).mean()) if len(p) else math.nan


def judged(cases: Sequence[Case], rows: pd.DataFrame) -> tuple[list[dict[str, Any]], pd.DataFrame, dict[str, Any]]:
    """Per case and method the scores of forecasts by laws from other bases; all risks; laws fitted to everything."""
    found, risks = [], []
    for case in cases:
        for method in ("lora", "full"):
            mine = rows[(rows["case"] == case.name) & (rows["method"] == method)]
            others = rows[(rows["base"] != case.base) & (rows["method"] == method)]
            sizes, known = mine[mine["kind"] == "size"], others[others["kind"] == "size"]
            if sizes.empty or known.empty:
                continue
            size = fitted(known)
            risk = risk_law(known, size)
            distance = (grown(sizes, size) - sizes["limit"] + risk.offset).to_numpy(float)
            p, came = chances(distance, risk.error), sizes["intruder"].to_numpy(float)
            risks.append(pd.DataFrame({"case": case.name, "method": method, "p": p, "came": came}))
            error = (sizes["outcome"] - grown(sizes, size)).to_numpy(float)
            held = []
            for _, trial in sizes.assign(distance=distance).groupby("trial"):
                _, low, high = expected_above(list(np.exp(trial["distance"].clip(-50, 50))), [1.0] * len(trial), risk)
                held.append(low <= trial["intruder"].sum() <= high)
            row = {
                "case": case.name, "method": method, "matrices": len(sizes), "with": float(came.mean()),
                "brier": brier(p, came), "reference": float(came.mean() * (1 - came.mean())),
                "mean": float(p.mean()), "size": float((np.abs(error) <= WIDTH * size.error).mean()),
                "factor": math.exp(size.error), "count": float(np.mean(held)), "trials": len(held),
            }  # fmt: skip
            lost, before = mine[mine["kind"] == "forgetting"], others[others["kind"] == "forgetting"]
            if len(lost) and len(before):
                law = fitted(before)
                error = (lost["outcome"] - grown(lost, law)).to_numpy(float)
                row |= {"lost": len(lost), "lost_held": float((np.abs(error) <= WIDTH * law.error).mean())}
                row["lost_factor"] = math.exp(law.error)
                for tolerance in TOLERANCES:
                    above = (lost["outcome"] > math.log(tolerance)).to_numpy(float)
                    p = chances((grown(lost, law) - math.log(tolerance)).to_numpy(float), law.error)
                    row[f"lost_brier_{tolerance:g}"] = brier(p, above)
                    row[f"lost_reference_{tolerance:g}"] = float(above.mean() * (1 - above.mean()))
            found.append(row)
    everything: dict[str, Any] = {"SIZE": {}, "RISK": {}, "FORGETTING": {}}
    for method in ("lora", "full"):
        mine = rows[rows["method"] == method]
        everything["SIZE"][method] = fitted(mine[mine["kind"] == "size"])
        everything["RISK"][method] = risk_law(mine[mine["kind"] == "size"], everything["SIZE"][method])
        everything["FORGETTING"][method] = fitted(mine[mine["kind"] == "forgetting"])
    return found, pd.concat(risks), everything


def rate_powers(cases: Sequence[Case], but: str = "") -> dict[str, float]:
    """How the best rate falls with the length of the training: the mean over the bases but one."""
    found: dict[str, list[float]] = {"lora": [], "full": []}
    for case in cases:
        if case.base == but:
            continue
        trials = case.trials()
        for method, rows in found.items():
            pilot = case.pilot.trained.middle(method)
            for _, group in trials[(trials["method"] == "full") == (method == "full")].groupby("label"):
                best = group.groupby("learning_rate")["validation_score"].mean().idxmax()
                one = group.iloc[0]
                carried = pilot
                if method == "lora":
                    carried = carried_over(pilot, (2.0, case.expected.rank), (float(one["scaling"]), int(one["rank"])))
                rows.append(math.log(best / carried) / math.log(case.expected.longer))
    return {method: round(float(np.mean(rows)), 3) for method, rows in found.items() if rows}


def choices(case: Case, power: dict[str, float]) -> list[dict[str, Any]]:
    """What the plan and the rules of thumb would have chosen on the grid of a run, and what that cost."""
    trials = case.trials()
    lora = trials[trials["method"].isin(["lora", "rslora"])]
    means = lora.groupby(["label", "learning_rate"])["validation_score"].mean()
    first = {label: group.iloc[0] for label, group in lora.groupby("label")}
    plain = {label: one for label, one in first.items() if one["method"] == "lora" and one["alpha"] == 2 * one["rank"]}
    pilot = case.pilot.trained.middle("lora") * case.expected.longer ** power["lora"]
    full = trials[trials["method"] == "full"].groupby("learning_rate")["validation_score"].mean()
    typical = float(np.median([one.rank for one in case.plan.matrices]))
    best = float(means.max())

    def near(rank: float) -> str:
        return min(plain, key=lambda label: abs(math.log(plain[label]["rank"] / rank)))

    def at(label: str, rate: float) -> tuple[float, float]:
        grid = means[label]
        nearest = min(grid.index, key=lambda one: abs(math.log(one / rate)))
        return float(nearest), float(grid[nearest])

    def planned(label: str) -> float:
        one = first[label]
        return carried_over(pilot, (2.0, case.expected.rank), (float(one["scaling"]), int(one["rank"])))

    asked = [
        ("plan", near(typical), planned(near(typical))),
        *((f"r = {rank}, 10 x full", near(rank), 10 * float(full.idxmax())) for rank in (8, 16)),
    ]
    rows = []
    for who, label, rate in asked:
        nearest, score = at(label, rate)
        near_by = [float(one) for tried, one in means[label].items() if abs(math.log(tried / rate)) < 1.3]
        rows.append({
            "case": case.name, "who": who, "label": label, "asked": rate, "rate": nearest, "regret": best - score,
            "rate_regret": float(means[label].max()) - score,
            "grid_regret": best - max([score, *near_by]),
        })  # fmt: skip
    own = [float(means[label].max()) - at(label, planned(label))[1] for label in first]
    ten = [float(means[label].max()) - at(label, 10 * float(full.idxmax()))[1] for label in first]
    rows.append(
        {"case": case.name, "who": "all", "plan": float(np.mean(own)), "ten": float(np.mean(ten)), "n": len(own)}
    )
    return rows


def reliability(risks: pd.DataFrame) -> list[str]:
    """Frequency of intruders where the plan said so much."""
    lines = ["| method | said | matrices | mean said | found |", "|---|---|---|---|---|"]
    for method, mine in risks.groupby("method", sort=False):
        for low in np.arange(0, 1, 0.2):
            part = mine[(mine["p"] >= low) & ((mine["p"] < low + 0.2) | (low > 0.75))]
            if len(part):
                lines.append(
                    f"| {method} | {low:.1f} to {low + 0.2:.1f} | {len(part)} | {part['p'].mean():.2f} | "
                    f"{part['came'].mean():.2f} |"
                )
    return lines


def main() -> None:
    """Fit, judge, print, and write the report where it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", default=RUNS)
    parser.add_argument("--pilots", type=Path, default=Path("runs/plan-pilots"))
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    cases = [opened(Path(run), given.pilots) for run in given.runs]
    rows = pd.DataFrame([row for case in cases for row in points(case)])
    found, risks, everything = judged(cases, rows)
    powers = {base: rate_powers(cases, base) for base in {case.base for case in cases}}
    chosen = [row for case in cases for row in choices(case, powers[case.base])]
    text = report(cases, found, risks, chosen)
    print(text)
    for name, own in everything.items():
        print(name, own)
    print("RATE_POWER", rate_powers(cases), "as shipped:", laws.RATE_POWER)
    if given.write:
        REPORT.write_text(text, encoding="utf-8")


def report(
    cases: Sequence[Case], found: Sequence[dict[str, Any]], risks: pd.DataFrame, chosen: Sequence[dict[str, Any]]
) -> str:
    """The tables."""
    lines = ["# How well a plan foretells", "", "Command: `python scripts/check_plan.py --write`.", ""]
    lines += [
        f"- `{case.name}`: {case.base} on {case.plan.task}, {case.steps} steps, {len(case.trials())} trials of "
        f"{case.trials()['label'].nunique()} configurations; pilot of {case.pilot.settings.steps} steps, "
        f"{len(case.pilot.trained.trials)} trainings"
        for case in cases
    ]
    lines += [
        "", "Every line was foretold by laws that were fitted to the runs of other bases alone; how a rate falls with",
        "the length of a training is a guess that no run was used for.", "",
        "## Intruders, matrix by matrix", "",
        "| run | method | matrices | with intruders | mean risk | Brier score | of the base rate | sizes in the "
        f"{100 * LEVEL:.0f} % interval (factor) | counts in it |", "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    lines += [
        f"| {one['case']} | {one['method']} | {one['matrices']} | {one['with']:.2f} | {one['mean']:.2f} | "
        f"{one['brier']:.3f} | {one['reference']:.3f} | {100 * one['size']:.0f} % ({one['factor']:.2g}) | "
        f"{100 * one['count']:.0f} % of {one['trials']} |"
        for one in found
    ]
    lines += ["", "## Reliability of the risk of intruders", "", *reliability(risks), "", "## Forgetting", ""]
    marks = [f"{tolerance:g}" for tolerance in TOLERANCES]
    lines += [
        f"| run | method | values | in the {100 * LEVEL:.0f} % interval (factor) | "
        + " | ".join(f"Brier score at {mark} (base rate)" for mark in marks) + " |",
        "|---|---|---|---|" + "---|" * len(marks),
    ]  # fmt: skip
    lines += [
        f"| {one['case']} | {one['method']} | {one['lost']} | {100 * one['lost_held']:.0f} % "
        f"({one['lost_factor']:.2g}) | "
        + " | ".join(f"{one[f'lost_brier_{mark}']:.3f} ({one[f'lost_reference_{mark}']:.3f})" for mark in marks)
        + " |"
        for one in found if "lost" in one
    ]  # fmt: skip
    lines += [
        "", "## What the choice cost", "",
        "Regret: best mean validation score among all LoRA configurations and rates of the run, minus that of the "
        "choice, which is the nearest configuration and rate that the run has.", "",
        "| run | choice | configuration | rate asked for | rate in the run | regret | with the better neighbour |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    lines += [
        f"| {one['case']} | {one['who']} | {one['label']} | {one['asked']:.2g} | {one['rate']:g} | "
        f"{one['regret']:.3f} | {one['grid_regret']:.3f} |"
        for one in chosen
        if one["who"] != "all"
    ]
    lines += [
        "",
        "Of the rate alone, mean over all LoRA configurations of the run:",
        "",
        "| run | plan | 10 x full |",
        "|---|---|---|",
    ]
    lines += [f"| {one['case']} | {one['plan']:.3f} | {one['ten']:.3f} |" for one in chosen if one["who"] == "all"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
