"""What the tables say, in plain sentences: pure functions from tables to text.

A sentence states the figure, what it is a figure of, and an interval where there is one. It never says "significant".
At most `MOST` stand on the first screen; the others open the sections whose question they answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from spectra.report.inputs.material import Material
from spectra.report.text.forgetting_findings import association_findings, equal_score_findings, forgetting_findings
from spectra.report.text.intervention_findings import intervention_findings
from spectra.report.text.intruder_findings import intruder_findings, unbeaten_finding
from spectra.report.text.scan_findings import scan_findings

MOST = 3


@dataclass(frozen=True)
class Findings:
    """The sentences of a page.

    Attributes:
        headline: Those of the first screen, most important first.
        answers: Further ones, by the identity of the section that they open.
    """

    headline: tuple[str, ...]
    answers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def findings(material: Material) -> Findings:
    """The sentences on a run, a scan, an intervention or a comparison."""
    cause = intervention_findings(material)
    if material.kind == "scan":
        said = scan_findings(material)
        return Findings(tuple(said[:MOST]), {"map": tuple(said[MOST:])})
    if material.done.empty:
        said = cause or ["No trial has finished, so there is nothing to compare."]
        return Findings(tuple(said[:MOST]), {"interventions": tuple(said[MOST:])})
    unbeaten = unbeaten_finding(material)
    if material.telling.empty:
        return Findings(tuple(unbeaten))
    intruders = intruder_findings(material)
    kept, compared, gone_with = [], [], []
    forgetting = material.tables["forgetting"]
    for heldout in dict.fromkeys(forgetting["heldout"]):
        rows = forgetting[forgetting["heldout"] == heldout]
        kept += _on(str(heldout), forgetting_findings(material, rows))
        if material.kind == "sweep":
            compared += _on(str(heldout), equal_score_findings(material, rows))
        gone_with += _on(str(heldout), association_findings(material, rows))
    # Forgetting at equal task score says more than how many trials forgot.
    first = [*unbeaten, *intruders[:2], *compared[:1], *kept[:1], *cause[:1]][:MOST]
    answers = {
        "trade-off": [*kept, *compared],
        "intruders": intruders,
        "association": gone_with,
        "interventions": cause,
    }
    rest = {name: tuple(one for one in said if one not in first) for name, said in answers.items()}
    return Findings(tuple(first), {name: said for name, said in rest.items() if said})


def _on(heldout: str, sentences: list[str]) -> list[str]:
    """Sentences that say which held-out task they speak of."""
    return [f"{heldout}: {sentence}" for sentence in sentences]
