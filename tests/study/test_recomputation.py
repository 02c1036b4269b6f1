"""The script that computes the deciding figures a second time, on the raw tables of a simulated study."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from spectra.study import StudySettings, StudyTables, answers_of
from tests.study.simulated import SLOTS, Plant, simulated

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "recompute_study.py"
ASKED = StudySettings.model_validate({"questions": ["a", "b", "c", "d"]})


def write_raw(tables: StudyTables, folder: Path) -> None:
    """What a run folder holds, from which the tables of a study are made."""
    (folder / "tables").mkdir(parents=True)
    trials = tables.trials
    raw = trials[["trial", "label", "method", "learning_rate", "seed", "chosen", "validation_score", "count"]].assign(
        status="done", matrices=SLOTS // 10, k=10, update_relative=trials["update_relative"]
    )
    vectors = [
        pd.DataFrame({"trial": row["trial"], "side": "left", "is_intruder": np.arange(SLOTS) < row["count"]})
        for row in trials.to_dict("records")
    ]
    controls = [
        pd.DataFrame(
            {"trial": row["trial"], "control": row["control"], "is_intruder": np.arange(SLOTS) < row["control_count"]}
        )
        for row in trials.to_dict("records")
    ]
    for name, table in {
        "trials": raw,
        "vectors": pd.concat(vectors),
        "controls": pd.concat(controls),
        "forgetting": tables.forgetting,
        "trajectory": tables.trajectory,
    }.items():
        table.to_parquet(folder / "tables" / f"{name}.parquet")
    for trial, rows in tables.contrasts.groupby("trial"):
        place = folder / "trials" / str(trial) / "interventions"
        place.mkdir(parents=True)
        rows.to_parquet(place / "intervention_contrasts.parquet")


def test_every_deciding_figure_is_found_again_and_a_changed_one_is_noticed(tmp_path: Path) -> None:
    tables = simulated(Plant(world="intruders", contrast=True, rise=True, seeds=4), np.random.default_rng(5))
    write_raw(tables, tmp_path)
    (tmp_path / "study" / "tables").mkdir(parents=True)
    settings = {"study": ASKED.model_dump(mode="json")}
    (tmp_path / "study" / "study.json").write_text(json.dumps({"specification": settings}))
    (tmp_path / "study" / "verdicts.json").write_text(json.dumps({"bar": {"score": None}}))
    comparisons = answers_of(tables, ASKED).tables["comparisons"]
    stored = tmp_path / "study" / "tables" / "comparisons.parquet"

    def recomputed() -> "subprocess.CompletedProcess[str]":
        return subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True, check=False)

    comparisons.to_parquet(stored)
    done = recomputed()
    assert done.returncode == 0, done.stdout + done.stderr
    deciding = comparisons[comparisons["decides"]]
    assert deciding["low"].notna().all()
    assert f"{len(deciding)} of {len(deciding)} deciding figures agree." in done.stdout
    comparisons.loc[deciding.index[0], "high"] += 0.01
    comparisons.to_parquet(stored)
    assert recomputed().returncode == 1
