"""What the tables say, in plain sentences: pure functions from tables to text.

A sentence states the figure, what it is a figure of, and an interval where there is one. It never says "significant".
"""

from dataclasses import dataclass

from spectra.report.inputs.sources import Material
from spectra.report.text.forgetting_findings import association_findings, equal_score_findings, forgetting_findings
from spectra.report.text.intervention_findings import intervention_findings
from spectra.report.text.intruder_findings import intruder_findings, scan_findings


@dataclass(frozen=True)
class Topic:
    """Sentences on one subject, most important first."""

    heading: str
    sentences: tuple[str, ...]


def findings(material: Material) -> list[Topic]:
    """The first screen, most important topic first."""
    if material.kind == "scan":
        return [Topic("Intruder dimensions", tuple(scan_findings(material)))]
    cause = Topic("What causes the forgetting?", tuple(intervention_findings(material)))
    if material.done.empty and cause.sentences:
        return [cause]
    if material.done.empty:
        return [Topic("Nothing yet", ("No trial has finished, so there is nothing to compare.",))]
    topics = [Topic("Intruder dimensions", tuple(intruder_findings(material)))]
    forgetting = material.tables["forgetting"]
    for heldout in dict.fromkeys(forgetting["heldout"]):
        rows = forgetting[forgetting["heldout"] == heldout]
        sentences = forgetting_findings(material, rows)
        if material.kind == "sweep":
            sentences += equal_score_findings(material, rows)
        sentences += association_findings(material, rows)
        topics.append(Topic(f"Forgetting: {heldout}", tuple(sentences)))
    return [topic for topic in [*topics, cause] if topic.sentences]
