"""What conditions of continuous integration are held against: the figures of a run, a scan or a comparison."""

from collections.abc import Iterator

from spectra.records.conditions import Case
from spectra.records.scan import Scan, totals
from spectra.report.inputs.evidence import null_of_scan
from spectra.report.inputs.sources import Material


def cases(material: Material) -> Iterator[Case]:
    """One case per chosen trial and held-out task."""
    forgetting = material.tables["forgetting"]
    for row in material.chosen.to_dict("records"):
        null = material.nulls.get(str(row["trial"]))
        score = row["task_score"] if row["task_score"] == row["task_score"] else row["validation_score"]
        facts = {
            "intruders": float(row["count"]),
            "control": None if null is None else null.count,
            "norm": row["update_relative"],
            "score": score,
        }
        name = str(row["label"]) + ("" if str(row["seed"]) in ("<NA>", "nan") else f", seed {row['seed']}")
        own = forgetting[forgetting["trial"] == row["trial"]]
        if own.empty:
            yield Case(name, facts)
        for held in own.to_dict("records"):
            ends = {f"forgetting.{end}": held[end] for end in ("low", "high")}
            yield Case(f"{name}, {held['heldout']}", {**facts, "forgetting": held["forgetting"], **ends})


def scan_case(scan: Scan) -> Case:
    """The case of one scanned checkpoint."""
    null = null_of_scan(scan)
    norm = totals(scan.matrices).get("update_relative")
    facts = {"intruders": float(scan.count), "control": None if null is None else null.count, "norm": norm}
    return Case(scan.checkpoint, facts)
