"""What a report is about, in words: base, task, method, rank, alpha and size instead of paths."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsFloat

from spectra.records.scan import Scan
from spectra.report.tables import numbers

if TYPE_CHECKING:
    import pandas as pd

METHODS: Mapping[str, str] = {
    "full": "full fine-tuning", "lora": "LoRA", "rslora": "rsLoRA", "dora": "DoRA", "adalora": "AdaLoRA",
    "loha": "LoHa", "lokr": "LoKr", "pissa": "PiSSA", "olora": "OLoRA", "oft": "OFT", "boft": "BOFT", "vera": "VeRA",
    "ia3": "IA3",
}  # fmt: skip
DATA_SUFFIXES = (".csv", ".json", ".jsonl", ".parquet", ".txt", ".safetensors")


def plain_name(task: str) -> str:
    """What a person calls a task or a model: its name, or the last part of the path of something local."""
    is_path = task.startswith(("/", "./", "../", "~")) or task.count("/") > 1 or Path(task).suffix in DATA_SUFFIXES
    return Path(task).name if is_path else task


def checkpoint_label(scan: Scan) -> str:
    """Method, rank and alpha of a scanned checkpoint; the end of its path where they are not known."""
    ranks = {matrix.rank for matrix in scan.matrices if matrix.rank is not None}
    alphas = {matrix.alpha for matrix in scan.matrices if matrix.alpha is not None}
    method = METHODS.get(scan.kind, scan.kind)
    if not method:
        return plain_name(scan.checkpoint)
    return " ".join([method, *_setting("r=", ranks), *_setting("α=", alphas)])


def _setting(name: str, values: Iterable[SupportsFloat]) -> list[str]:
    """One value, or the range of those of several matrices."""
    ordered = sorted(float(value) for value in values)
    if not ordered:
        return []
    low, high = numbers.exact(ordered[0]), numbers.exact(ordered[-1])
    return [name + low if low == high else f"{name}{low}–{high}"]


def scan_title(scan: Scan) -> str:
    """Method, rank and alpha, and the base."""
    label = checkpoint_label(scan)
    return f"{label[0].upper()}{label[1:]} on {plain_name(scan.base)}" if scan.kind else label


def scan_subject(scan: Scan) -> dict[str, str]:
    """What was scanned."""
    size = sum(matrix.shape[0] * matrix.shape[1] for matrix in scan.matrices)
    return {
        "Base": plain_name(scan.base),
        "Checkpoint": plain_name(scan.checkpoint),
        **({"Method": checkpoint_label(scan)} if scan.kind else {}),
        "Compared": f"{numbers.count(len(scan.matrices))} matrices, {numbers.parameters(size)} weights",
    }


def sweep_title(specification: Mapping[str, Any], trials: "pd.DataFrame", name: str) -> str:
    """The title that the specification gives, or task, base and methods."""
    if specification.get("title"):
        return str(specification["title"])
    task, base = str(specification.get("task") or ""), str(specification.get("base") or "")
    if not task or not base:
        return name
    return f"{plain_name(task)} on {plain_name(base)}: {configurations(trials)}"


def sweep_subject(specification: Mapping[str, Any], trials: "pd.DataFrame") -> dict[str, str]:
    """What was tuned on what."""
    tasks = specification.get("tasks") or [specification.get("task") or ""]
    sizes = trials["trainable_parameters"].dropna()
    seeds = trials["seed"].dropna().nunique()
    rates = int(trials.groupby("label")["learning_rate"].nunique().max()) if len(trials) else 0
    most = "up to " if rates > 1 else ""
    parts = {
        "Base": plain_name(str(specification.get("base") or "")),
        "Task": ", ".join(plain_name(str(task)) for task in tasks),
        "Methods": configurations(trials),
        "Trained parameters": numbers.ends(numbers.parameters(sizes.min()), numbers.parameters(sizes.max()))
        if len(sizes)
        else "",
        "Trials": f"{len(trials)}: {most}{_number(rates, 'learning rate')}, {_number(seeds, 'seed')}",
    }
    return {name: text for name, text in parts.items() if text}


def configurations(trials: "pd.DataFrame", most: int = 4) -> str:
    """The labels of a sweep, or how many there are."""
    labels = [str(label) for label in dict.fromkeys(trials["label"])]
    return ", ".join(labels) if len(labels) <= most else f"{len(labels)} configurations"


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
