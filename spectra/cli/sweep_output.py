"""What `spectra sweep` and `spectra status` print: tables for people that fit 80 columns, JSON for machines."""

import json
import os
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectra.cli.terminal import echo

if TYPE_CHECKING:
    import pandas as pd

    from spectra.runs import Run, TrialFolder
    from spectra.sweep import Specification

NARROWEST = 16  # columns that a folded text keeps


def print_plan(specification: "Specification", out: Path, *, as_json: bool) -> None:
    """The trials of a sweep and what they are expected to cost."""
    from spectra.assets import fetching_nothing
    from spectra.runs import tidy
    from spectra.sweep.preflight.downloads import downloads
    from spectra.sweep.preflight.look import preflight
    from spectra.sweep.spec.plan import plan

    with fetching_nothing():
        looked = preflight(specification, plan(specification), out, planned=True)
    estimates, account = looked.estimates, tidy("row_account", looked.account)
    absent = downloads(specification)
    told = (
        "\n".join(["The sweep would download:", *(f"  {one}" for one in absent)])
        if absent
        else "Everything that the sweep needs is at hand."
    )
    if as_json:
        rows = [
            {
                "trial": one.trial.id,
                **one.trial.kind.to_dict(),
                "label": one.trial.label,
                "trainable_parameters": one.trainable_parameters,
                "optimiser_bytes": one.optimiser_bytes,
                "disk_bytes": one.disk_bytes,
                "seconds": one.seconds,
            }
            for one in estimates
        ]
        echo(json.dumps(rows, indent=2))
        echo(told, err=True)
        _print_account(account, err=True)
        return
    print_table(
        ("configuration", "rate", "seed", "trained", "optimiser", "disk", "time"),
        [
            (
                one.trial.label,
                *rate_and_seed(one.trial.described()),
                quantity(one.trainable_parameters),
                quantity(one.optimiser_bytes, "B"),
                quantity(one.disk_bytes, "B"),
                minutes(one.seconds),
            )
            for one in estimates
        ],
        numeric=range(1, 7),
    )
    known = [one.seconds for one in estimates if one.seconds is not None]
    total = f"training takes very roughly {minutes(sum(known))} here" if known else "the time cannot be estimated"
    total = (
        total if specification.methods else "all exist already and nothing is trained, the time of measuring is unknown"
    )
    echo(f"{len(estimates)} trials; {total}; keep: {specification.keep}.")
    _print_account(account)
    echo(told)


def print_results(run: "Run", report: Path, *, as_json: bool) -> None:
    """The outcome of a sweep: one line per configuration at its chosen learning rate."""
    trials, forgetting, account = (run.table(name) for name in ("trials", "forgetting", "row_account"))
    if as_json:
        tables = {
            name: json.loads(table.to_json(orient="records", double_precision=15))
            for name, table in (
                ("trials", trials),
                ("forgetting", forgetting),
                ("row_account", account),
            )
        }
        echo(json.dumps({"run": str(run.path), "report": str(report), **tables}, indent=2))
        return
    chosen = trials[trials["chosen"].fillna(False).astype(bool)]
    heldout = list(dict.fromkeys(forgetting["heldout"]))
    rows = []
    for label, group in chosen.groupby("label", sort=False):
        lost = forgetting[forgetting["trial"].isin(group["trial"])].groupby("heldout")["forgetting"].mean()
        rows.append(
            (
                str(label),
                _rate(group["learning_rate"].iloc[0]),
                _mean(group["task_score"]),
                *(f"{lost[name]:+.4f}" if name in lost else "" for name in heldout),
                f"{group['count'].astype(float).mean():g}",
                f"{group['update_frobenius'].mean():.2f}",
            )
        )
    held = [name.replace("-", "-\n") for name in _short(heldout)]
    header = ("configuration", "rate", "score", *held, "intruders", "|update|")
    print_table(header, rows, numeric=range(1, len(header)))
    for _, row in trials[trials["error"] != ""].iterrows():
        echo(f"{row['label']}, seed {row['seed']}: failed: {row['error']}", err=True)
    if len(chosen):
        first = chosen.iloc[0]
        echo(
            f"score: {first['task_metric']} on {first['task_examples']} test examples of {first['task']}; held-out "
            f"columns: forgetting (loss of the tuned minus the base model); intruders of {first['matrices']} matrices, "
            f"k = {first['k']}, epsilon = {first['epsilon']:g}"
        )
    _print_account(account)
    echo(f"Report: {report}")


def _print_account(account: "pd.DataFrame", *, err: bool = False) -> None:
    """What became of the rows of every task, and where much was lost."""
    table = account.drop(columns="trial").drop_duplicates()
    for _, row in table.iterrows():
        parts = [f"{row['used']} of {row['read']} rows used"]
        parts += [f"{row['set_aside']} set aside"] if row["set_aside"] else []
        parts += [str(row["reasons"])] if row["reasons"] else []
        parts += (
            [f"{row['texts_cut']} of {row['texts']} texts cut"] if str(row["texts_cut"]) not in ("0", "<NA>") else []
        )
        parts += [f"{row['classes']} labels"] if str(row["classes"]) != "<NA>" else []
        parts += [f"{row['overlap']} also trained on"] if str(row["overlap"]) not in ("0", "<NA>") else []
        echo(f"{row['task']}, {row['split']}: {'; '.join(parts)}", err=err)
    for sentence in dict.fromkeys(table["warning"]):
        if sentence:
            echo(f"Warning: {sentence}", err=True)


def failed(run: "Run", trials: Collection[str]) -> list[str]:
    """Those of some trials that failed, in training, measuring or on the test split."""
    table = run.table("trials")
    return [str(trial) for trial in table[(table["error"] != "") & table["trial"].isin(list(trials))]["trial"]]


def states(run: "Run") -> list[dict[str, Any]]:
    """Where every trial of a run stands, whichever call asked for it."""
    described = {trial["id"]: trial for trial in run.sweep["trials"]}
    for folder in run.trials():
        described.setdefault(folder.id, _described(folder))
    return [_status(run, trial) for trial in described.values()]


def _described(folder: "TrialFolder") -> dict[str, Any]:
    """A trial that only its own folder knows of."""
    written = folder.settings
    known = {name: written["specification"].get(name) for name in ("learning_rate", "seed")}
    return {"id": folder.id, "label": written["label"], "group": written["group"], **known}


def print_status(rows: Sequence[Mapping[str, Any]]) -> None:
    """One line per trial, every error, and how many trials are in each state."""
    print_table(
        ("trial", "configuration", "rate", "seed", "state"),
        [(row["id"], row["label"], *rate_and_seed(row), row["state"]) for row in rows],
        numeric=range(2, 4),
    )
    for row in rows:
        if row["error"]:
            echo(f"{row['id']}: {row['error']}")
    if spent := _by_part(rows):
        done = sum(bool(row["seconds"]) for row in rows)
        parts = ", ".join(f"{part} {minutes(seconds)}" for part, seconds in spent.items())
        echo(f"Time of {done} trials by part: {parts}")
    found = [row["state"] for row in rows]
    counted = ", ".join(f"{found.count(state)} {state}" for state in dict.fromkeys(sorted(found)))
    echo(counted + _training_left(rows))


def _by_part(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Seconds of all trials together, by part, the longest first."""
    spent: dict[str, float] = {}
    for row in rows:
        for part, seconds in row["seconds"].items():
            spent[part] = spent.get(part, 0.0) + seconds
    return dict(sorted(spent.items(), key=lambda one: -one[1]))


def _training_left(rows: Sequence[Mapping[str, Any]]) -> str:
    """What is left to train at the pace of the trials that are done; failed trials wait for the next call."""
    known = [row["train_seconds"] for row in rows if row["state"] == "done" and row["train_seconds"]]
    left = sum(row["state"] not in ("done", "failed") for row in rows)
    if not known or not left:
        return ""
    return f"; about {minutes(left * sum(known) / len(known))} of training left, one trial at a time"


def _status(run: "Run", planned: dict[str, Any]) -> dict[str, Any]:
    folder = run.trial(planned["id"])
    failure = folder.failure or {}
    return {
        **planned,
        "state": folder.state,
        "error": failure.get("error", ""),
        "attempts": failure.get("attempts", 0),
        "train_seconds": (folder.metrics or {}).get("train_seconds"),
        "seconds": folder.seconds,
    }


def rate_and_seed(row: Mapping[str, Any]) -> tuple[str, str]:
    """Of a trial; empty for a checkpoint that existed already."""
    return _rate(row["learning_rate"]), "" if row["seed"] is None else str(row["seed"])


def _rate(rate: float | None) -> str:
    return "" if rate is None or rate != rate else f"{rate:g}"


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, numeric: Sequence[int] | range) -> None:
    """A plain table on stdout; numbers to the right, long texts folded to the width of a terminal.

    In a pipe or a file every row is one line; where a terminal is too narrow, its lines are longer rather than columns
    lost.
    """
    cells = [[cell.split("\n") for cell in row] for row in (header, *rows)]
    widths = [max(len(line) for row in cells for line in row[column]) for column in range(len(header))]
    texts = [column for column in range(len(header)) if column not in numeric]
    excess = 1 + sum(widths) + 2 * (len(widths) - 1) - _room()
    for column in sorted(texts, key=lambda column: -widths[column]):
        narrowed = max(widths[column] - max(excess, 0), min(widths[column], NARROWEST))
        excess -= widths[column] - narrowed
        widths[column] = narrowed
    head, *body = ("\n".join(_folded(row, widths, numeric)) for row in cells)
    echo("\n".join(["", head, f" {'─' * (sum(widths) + 2 * (len(widths) - 1))}", *body, ""]))


def _room() -> int:
    """Columns that a line may have: a terminal's, or what COLUMNS says; without limit elsewhere."""
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return shutil.get_terminal_size().columns
    return sys.maxsize


def _folded(row: Sequence[Sequence[str]], widths: Sequence[int], numeric: Sequence[int] | range) -> Iterator[str]:
    """The lines of one row."""
    folded = [
        [line[start : start + width] for line in cell for start in range(0, max(len(line), 1), width or 1)]
        for cell, width in zip(row, widths, strict=True)
    ]
    for parts in zip_longest(*folded, fillvalue=""):
        padded = [
            part.rjust(width) if column in numeric else part.ljust(width)
            for column, (part, width) in enumerate(zip(parts, widths, strict=True))
        ]
        yield f" {'  '.join(padded)}".rstrip()


def quantity(value: int | float | None, unit: str = "") -> str:
    """A count or a size with a decimal prefix; "?" where it is not known."""
    if value is None:
        return "?"
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.0f} {unit}".strip()


def minutes(seconds: float | None) -> str:
    """A duration for people; "?" where it is not known."""
    if seconds is None:
        return "?"
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _short(names: Sequence[str]) -> list[str]:
    """Names of held-out tasks for a narrow column: the task where that is unique, else the measure."""
    tasks = [name.rpartition(":")[0] or name for name in names]
    measures = [name.rpartition(":")[2] for name in names]
    return next((short for short in (tasks, measures) if len(set(short)) == len(short)), list(names))


def _mean(scores: "pd.Series[float]") -> str:
    if scores.isna().all():
        return ""
    spread = f" ±{scores.std():.3f}" if len(scores) > 1 else ""
    return f"{scores.mean():.4f}{spread}"
