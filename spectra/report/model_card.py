"""The section of a model card: Markdown for people, and the hub's `model-index` for machines."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from spectra.errors import RunError
from spectra.report.inputs.material import Material
from spectra.report.tables import numbers
from spectra.report.text.findings import findings
from spectra.report.tiles import tiles

if TYPE_CHECKING:
    import pandas as pd


def model_card(material: Material) -> str:
    """The section of the model that the first screen of a report speaks of.

    A run that tuned several configurations gives the section of the one in focus, with full fine-tuning beside it.

    Raises:
        RunError: If the material is no run and no scan, or has nothing to say.
    """
    if material.kind not in ("sweep", "scan"):
        raise RunError("A model card is about one run or one scan. Name one of them.")
    shown = tiles(material)
    if not shown:
        raise RunError("No trial of this run can be described in a model card: none is done, or none beat its base.")
    label = shown[0].entries[0].name or str(material.done["label"].iloc[0])
    return f"{_model_index(material, label)}{_markdown(material)}"


def _model_index(material: Material, label: str) -> str:
    """The YAML block between two rules; nothing for a scan, which measures no data set."""
    trials = material.telling
    rows = trials[trials["label"] == label]
    results = list(_results(material, rows)) if material.kind == "sweep" else []
    if not results:
        return ""
    # JSON is YAML: a text of others cannot end its value.
    lines = ["---", "model-index:", f"- name: {_text(label)}", "  results:"]
    for result in results:
        lines += [
            "  - task:",
            f"      type: {_text(result['type'])}",
            "    dataset:",
            f"      name: {_text(result['dataset'])}",
            f"      type: {_text(result['dataset'])}",
            "    metrics:",
        ]
        for metric in result["metrics"]:
            lines += [f"    - {line}" if at == 0 else f"      {line}" for at, line in enumerate(metric)]
    return "\n".join([*lines, "---", "", ""])


def _results(material: Material, rows: "pd.DataFrame") -> Iterator[dict[str, Any]]:
    """The task, and every held-out task, with what was measured on it."""
    first = rows.iloc[0]
    kind = "text-classification" if first["task_metric"] == "accuracy" else "text-generation"
    scores = rows["task_score"].dropna()
    if len(scores):
        yield {
            "type": kind,
            "dataset": material.subject.get("Task") or str(first["task"]),
            "metrics": [_metric(str(first["task_metric"]), float(scores.mean()))],
        }
    forgetting = material.tables["forgetting"]
    own = forgetting[forgetting["trial"].isin(rows["trial"])]
    for heldout, group in own.groupby("heldout", sort=False):
        name = f"forgetting, tuned minus base ({group['unit'].iloc[0]})"
        yield {"type": kind, "dataset": str(heldout), "metrics": [_metric(name, float(group["forgetting"].mean()))]}


def _metric(name: str, value: float) -> list[str]:
    return [f"type: {_text(name)}", f"value: {value:.6g}", f"name: {_text(name)}"]


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _markdown(material: Material) -> str:
    """Heading, what it is, the tiles as a table, the sentences, and how it was measured."""
    subject = "; ".join(f"{name}: {_escaped(text)}" for name, text in material.subject.items())
    lines = ["## What fine-tuning did to the weights", "", subject, "", "| | | |", "|---|---|---|"]
    for tile in tiles(material):
        for entry in tile.entries:
            cells = (tile.heading, f"{entry.name}: {entry.value}" if entry.name else entry.value, entry.note)
            lines.append(f"| {' | '.join(_escaped(cell) for cell in cells)} |")
    trial = material.done.iloc[0]
    setting = f"k = {int(trial['k'])}, ε = {numbers.exact(trial['epsilon'])}"
    return "\n".join(
        [
            *lines,
            "",
            *(_escaped(sentence) + "\n" for sentence in findings(material).headline),
            f"Intruder dimensions after arXiv:2410.21228 ({setting}), measured with spectra "
            f"{material.versions.get('spectra', '')}. The null control is an update of the same size that no training "
            "made.",
        ]
    )


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    for mark in "\\`*_[]<>|":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
