"""What a study says: comparisons with their intervals, and the verdict that each question's comparisons allow."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from spectra.statistics.adjusted_slope import Slope
from spectra.statistics.interval import Estimate, interval_text
from spectra.statistics.over_units import UnitMean
from spectra.study.questions import QUESTIONS

Verdict = Literal["supported", "contradicted", "not distinguishable", "not enough settings"]
Direction = Literal["above", "below", "spans zero", "no interval"]


@dataclass(frozen=True)
class Comparison:
    """One figure of a study.

    Attributes:
        question: Letter of the question that it belongs to.
        name: What is compared.
        over: The configuration it is of; "all" for the mean over configurations.
        heldout: The held-out task, or "".
        value: The effect; None where there is no figure.
        low: Lower end of its interval; None where there is none.
        high: Upper end.
        level: Of the interval.
        error: Standard error.
        unit: Of the effect.
        seeds: Seeds behind it.
        settings: Configurations, or settings, behind it.
        smallest: The smallest effect that would have been told from zero in 80 % of studies like this one.
        decides: Whether the verdict rests on it.
        expected: Sign of the effect that the hypothesis expects; 0 without one.
        note: Why there is no interval, or what a reader has to know.
        details: Further figures, such as the counts behind a difference.
    """

    question: str
    name: str
    over: str
    heldout: str
    value: float | None
    low: float | None
    high: float | None
    level: float
    error: float | None
    unit: str
    seeds: int
    settings: int
    smallest: float | None
    decides: bool = False
    expected: int = 0
    note: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def direction(self) -> Direction:
        """Where the interval lies, as seen from the hypothesis where there is one."""
        if self.value is None or (self.low is None and self.high is None):
            return "no interval"
        sign = self.expected or 1
        low, high = sorted(sign * (end if end is not None else default) for end, default in self._ends)
        return "above" if low > 0 else "below" if high < 0 else "spans zero"

    @property
    def _ends(self) -> list[tuple[float | None, float]]:
        return [(self.low, float("-inf")), (self.high, float("inf"))]

    @property
    def verdict(self) -> Verdict:
        """What this comparison alone allows to be said of its hypothesis."""
        words: Mapping[Direction, Verdict] = {
            "above": "supported",
            "below": "contradicted",
            "spans zero": "not distinguishable",
            "no interval": "not enough settings",
        }
        return words[self.direction]

    @property
    def text(self) -> str:
        """The figure with its interval."""
        if self.value is None:
            return f"{self.name}: {self.note or 'no figure'}"
        shown = f"{self.name}: {self.value:+.3g} {interval_text(self.low, self.high, '+.3g')} {self.unit}"
        return shown + (f" ({self.note})" if self.note else "")

    def row(self) -> dict[str, Any]:
        """The comparison as a row of the table of comparisons."""
        plain = {name: value for name, value in asdict(self).items() if name != "details"}
        return {**plain, "finding": self.finding}

    @property
    def finding(self) -> str:
        """The verdict; of a comparison without a hypothesis, where the interval lies."""
        if self.expected:
            return self.verdict
        return {"above": "positive", "below": "negative"}.get(self.direction, self.verdict)


def comparison(
    question: str,
    name: str,
    found: UnitMean | Slope,
    *,
    level: float,
    unit: str,
    seeds: int,
    settings: int,
    over: str = "all",
    heldout: str = "",
    **more: Any,
) -> Comparison:
    """A comparison from a mean over units, or a slope."""
    estimate: Estimate = found.estimate
    low, high = estimate.ends
    known = estimate.value == estimate.value
    note = "; ".join(part for part in (more.pop("note", ""), estimate.cannot_tell) if part)
    return Comparison(
        question=question,
        name=name,
        over=over,
        heldout=heldout,
        value=estimate.value if known else None,
        low=low,
        high=high,
        level=level,
        error=found.error or None,
        unit=unit,
        seeds=seeds,
        settings=settings,
        smallest=found.smallest,
        note=note,
        **more,
    )


@dataclass(frozen=True)
class Answer:
    """The verdict on one question.

    Attributes:
        question: Its letter.
        text: The question.
        verdict: What the deciding comparisons allow to be said.
        sentence: The verdict with the figures that decided it.
        seeds: The fewest seeds behind a deciding figure.
        settings: The fewest settings behind one.
        comparisons: All of the question, the deciding ones first.
    """

    question: str
    text: str
    verdict: Verdict
    sentence: str
    seeds: int
    settings: int
    comparisons: tuple[Comparison, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "question": self.question,
            "text": self.text,
            "hypothesis": QUESTIONS[self.question].hypothesis,
            "verdict": self.verdict,
            "sentence": self.sentence,
            "seeds": self.seeds,
            "settings": self.settings,
            "comparisons": [{**asdict(one), "finding": one.finding} for one in self.comparisons],
        }


def answer(question: str, comparisons: Iterable[Comparison], verdict: Verdict | None = None) -> Answer:
    """The answer to a question; `verdict` where its rule is another than that of `joint_verdict`."""
    ordered = tuple(sorted(comparisons, key=lambda one: not one.decides))
    deciding = [one for one in ordered if one.decides]
    verdict = verdict or joint_verdict(deciding)
    told = "; ".join(one.text for one in deciding) or "nothing that decides could be compared"
    return Answer(
        question,
        QUESTIONS[question].text,
        verdict,
        f"{verdict[0].upper()}{verdict[1:]}: {told}.",
        min((one.seeds for one in deciding), default=0),
        min((one.settings for one in deciding), default=0),
        ordered,
    )


def joint_verdict(deciding: Sequence[Comparison]) -> Verdict:
    """Supported, or contradicted, only if every comparison says so, which needs no allowance for their number.

    Source: the intersection-union test, Berger 1982, Technometrics 24, 295-300. Difference: for both directions.
    """
    said = {one.verdict for one in deciding}
    if not said or "not enough settings" in said:
        return "not enough settings"
    return said.pop() if len(said) == 1 else "not distinguishable"
