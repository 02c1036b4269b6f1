"""The figures of a study as Markdown: every configuration at its chosen rate, and every rate.

    python scripts/tabulate_study.py RUN

Means are over the seeds; the null control is random factors of the same norm and rank, and dense noise of the same norm
for full fine-tuning. Nothing of the package is imported: the tables of the run folder are enough.
"""

import sys
from pathlib import Path

import pandas as pd

CONTROLS = ("random low rank", "dense gaussian")


def trials_of(folder: Path) -> pd.DataFrame:
    """Finished trials with the count of their null control and one column of forgetting per held-out task."""
    trials = pd.read_parquet(folder / "tables" / "trials.parquet")
    trials = trials[trials["status"] == "done"].set_index("trial", drop=False)
    controls = pd.read_parquet(folder / "tables" / "controls.parquet")
    counted = controls[controls["is_intruder"].astype(bool)].groupby(["trial", "control"]).size().unstack()
    drawn = controls.groupby(["trial", "control"]).size().unstack()
    counts = counted.reindex_like(drawn).fillna(0).where(drawn.notna())
    trials["null"] = pd.Series(float("nan"), trials.index)
    for name in CONTROLS:
        if name in counts:
            trials["null"] = trials["null"].fillna(counts[name])
    forgetting = pd.read_parquet(folder / "tables" / "forgetting.parquet")
    return trials.join(forgetting.pivot_table(index="trial", columns="heldout", values="forgetting"))


def markdown(table: pd.DataFrame) -> str:
    """Rows of text as a Markdown table."""
    rows = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(folder: Path) -> None:
    """Print both tables."""
    trials = trials_of(folder)
    tasks = list(pd.read_parquet(folder / "tables" / "forgetting.parquet")["heldout"].unique())
    rows, every = [], []
    for (label, rate), group in trials.groupby(["label", "learning_rate"], sort=False):
        mean = group.select_dtypes("number").astype(float).mean()
        counts = ", ".join(f"{count}" for count in group.sort_values("seed")["count"])
        common = {
            "configuration": label,
            "rate": f"{rate:g}",
            "validation": f"{mean['validation_score']:.3f}",
            "intruders (seeds)": f"{mean['count']:.1f} ({counts})",
            "null control": f"{mean['null']:.1f}",
            "relative norm": f"{mean['update_relative']:.3f}",
        }
        every.append(common)
        if group["chosen"].astype(bool).any():
            beside = {f"forgetting {task}": f"{mean[task]:+.3f}" for task in tasks}
            rank = {"effective rank": f"{mean['effective_rank']:.1f}"}
            rows.append({**common, "test score": f"{mean['task_score']:.3f}", **rank, **beside})
    print(f"{int(trials['k'].iloc[0] * trials['matrices'].iloc[0])} leading vectors per trial.\n")
    print(markdown(pd.DataFrame(rows)), markdown(pd.DataFrame(every)), sep="\n\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
