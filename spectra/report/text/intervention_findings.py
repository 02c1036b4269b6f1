"""What an intervention says of the cause of forgetting: its verdicts, as they were reached."""

from spectra.report.figures.intervention import DECIDING, subjects
from spectra.report.inputs.material import Material


def intervention_findings(material: Material) -> list[str]:
    """The verdict on every checkpoint and held-out task: the intruders against the shrink to the same norm."""
    contrasts = material.tables["intervention_contrasts"]
    decided = contrasts[contrasts["control"] == DECIDING]
    several = decided["checkpoint"].nunique() > 1 or material.kind != "intervention"
    return [
        f"{subject}: {sentence}" if several else str(sentence)
        for subject, sentence in zip(subjects(material, decided), decided["sentence"], strict=True)
    ]
