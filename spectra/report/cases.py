"""What conditions of continuous integration are held against: the figures of a run, a scan or a comparison."""

from collections.abc import Iterator

from spectra.records.conditions import Case
from spectra.records.scan import Scan
from spectra.records.totals import totals
from spectra.report.inputs.evidence import null_of_scan, records
from spectra.report.inputs.material import Material
from spectra.report.tables.numbers import absent


def cases(material: Material) -> Iterator[Case]:
    """One case per chosen trial and held-out task."""
    forgetting = material.tables["forgetting"]
    for row in records(material.chosen):
        null = material.nulls.get(str(row["trial"]))
        score = row["validation_score"] if absent(row["task_score"]) else row["task_score"]
        facts = {
            "intruders": float(row["count"]),
            "control": None if null is None else null.count,
            "norm": row["update_relative"],
            "score": score,
        }
        name = str(row["label"]) + ("" if absent(row["seed"]) else f", seed {row['seed']}")
        own = forgetting[forgetting["trial"] == row["trial"]]
        if own.empty:
            yield Case(name, facts)
        for held in records(own):
            ends = {f"forgetting.{end}": held[end] for end in ("low", "high")}
            yield Case(f"{name}, {held['heldout']}", {**facts, "forgetting": held["forgetting"], **ends})


def scan_case(scan: Scan) -> Case:
    """The case of one scanned checkpoint."""
    null = null_of_scan(scan)
    norm = totals(scan.matrices).get("update_relative")
    facts = {"intruders": float(scan.count), "control": None if null is None else null.count, "norm": norm}
    return Case(scan.checkpoint, facts)
