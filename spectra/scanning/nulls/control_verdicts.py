"""The verdicts on every control of a matrix, vector by vector: what the counts of `spectra scan` are sums of."""

from collections.abc import Iterator

from spectra.records.intruder_scan import OneSide, VectorVerdict
from spectra.scanning.matrix_measures import facts_of, storage_of
from spectra.scanning.nulls.nulls import judged_controls
from spectra.scanning.settings import ScanSettings
from spectra.scanning.survey_settings import SurveySettings
from spectra.weights import MatrixPair


def control_verdicts(
    pair: MatrixPair, settings: ScanSettings, *, seed: int = 0
) -> Iterator[tuple[str, tuple[VectorVerdict, ...]]]:
    """Put every control in the place of the tuned matrix, one draw each, and judge its leading k vectors.

    Args:
        pair: The matrix and its change, whose norm and rank the random controls have.
        settings: The question.
        seed: Of the draws; `spectra scan` with the same seed counts the same vectors.

    Returns:
        Name of the control and its verdicts on the side that a count speaks of; nothing for a zero update.
    """
    asked = SurveySettings(settings, ("intruders", "nulls"), seed)
    facts = facts_of(pair, asked)
    if facts.delta_frobenius <= 0:
        return
    side: OneSide = "right" if settings.side == "right" else "left"
    for null, control in judged_controls(facts, storage_of(pair)):
        yield null, control.bounds[side].verdicts(settings.epsilon, side)
