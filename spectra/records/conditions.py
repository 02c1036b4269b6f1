"""Conditions on what was measured, for continuous integration: 'forgetting > 0.02', 'intruders > control'."""

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

from spectra.errors import DataError, visible

NAMES: Mapping[str, str] = {
    "forgetting": "tuned minus base loss on a held-out task",
    "forgetting.low": "lower end of its 95 % interval",
    "forgetting.high": "upper end of its 95 % interval",
    "intruders": "intruder dimensions, sum over matrices",
    "control": "intruder dimensions of the null control of equal norm and rank",
    "norm": "relative norm of the update",
    "score": "score on the task, higher is better",
}
OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
FORM = re.compile(r"\s*([a-z.]+)\s*(>=|<=|>|<)\s*(\S+)\s*")


@dataclass(frozen=True)
class Case:
    """One thing that conditions are held against: a checkpoint, on one held-out task where there is any.

    Attributes:
        name: What it is.
        facts: Values by the names of `NAMES`; None, or absence, for what was not measured.
    """

    name: str
    facts: Mapping[str, float | None]


@dataclass(frozen=True)
class Condition:
    """A comparison of a figure with a number or with another figure.

    Attributes:
        left: One of `NAMES`.
        symbol: One of `OPERATORS`.
        right: One of `NAMES`, or a number.
    """

    left: str
    symbol: str
    right: str | float

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """Read a condition such as 'forgetting > 0.02'.

        Raises:
            DataError: If it has another form, a name that is not known, or no finite number.
        """
        found = FORM.fullmatch(text)
        names = ", ".join(NAMES)
        if found is None:
            raise DataError(f"'{text}' is no condition. Write NAME > NUMBER or NAME > NAME, with a name of: {names}.")
        left, symbol, right = found.groups()
        value: str | float = right
        if right not in NAMES:
            try:
                value = float(right)
            except ValueError:
                value = math.nan
        if left not in NAMES or (isinstance(value, float) and not math.isfinite(value)):
            wrong = left if left not in NAMES else right
            raise DataError(f"'{wrong}' in the condition '{text}' is neither a number nor one of: {names}.")
        return cls(left, symbol, value)

    def __str__(self) -> str:
        """The condition as it is written."""
        return f"{self.left} {self.symbol} {self.right if isinstance(self.right, str) else f'{self.right:g}'}"

    @property
    def names(self) -> set[str]:
        """The figures that it needs."""
        return {self.left, *([self.right] if isinstance(self.right, str) else [])}


@dataclass(frozen=True)
class Judgement:
    """One condition on one case.

    Attributes:
        condition: The condition.
        case: What it was held against.
        holds: Whether it holds, and so fails; None where a figure was not measured.
        told: The figures, or what is missing.
    """

    condition: Condition
    case: Case
    holds: bool | None
    told: str


def judged(conditions: Sequence[Condition], cases: Iterable[Case]) -> tuple[Judgement, ...]:
    """Hold every condition against every case."""
    return tuple(_judged(condition, case) for case in cases for condition in conditions)


def _judged(condition: Condition, case: Case) -> Judgement:
    missing = sorted(name for name in condition.names if not _is_known(case.facts.get(name)))
    if missing:
        return Judgement(condition, case, None, f"{', '.join(missing)} not measured")
    left = float(case.facts[condition.left])  # type: ignore[arg-type]
    right = condition.right if isinstance(condition.right, float) else float(case.facts[condition.right])  # type: ignore[arg-type]
    told = ", ".join(f"{name} = {float(case.facts[name]):.6g}" for name in sorted(condition.names))  # type: ignore[arg-type]
    return Judgement(condition, case, OPERATORS[condition.symbol](left, right), told)


def _is_known(value: float | None) -> bool:
    return value is not None and not math.isnan(float(value))


def junit_xml(judgements: Sequence[Judgement]) -> str:
    """The judgements as JUnit's XML: a condition that holds is a failure, a figure that is missing an error."""
    lines = []
    for one in judgements:
        name, suite = quoteattr(_clean(str(one.condition))), quoteattr(_clean(one.case.name))
        told = quoteattr(_clean(one.told))
        tag = {True: "failure", None: "error"}.get(one.holds)
        body = f"<{tag} message={told}/>" if tag else ""
        lines.append(f"    <testcase classname={suite} name={name}>{body}</testcase>")
    failed = sum(one.holds is True for one in judgements)
    missing = sum(one.holds is None for one in judgements)
    counts = f'tests="{len(judgements)}" failures="{failed}" errors="{missing}"'
    inner = "\n".join(lines)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<testsuites name="spectra" {counts}>\n  <testsuite name="spectra" {counts}>\n{inner}\n  </testsuite>\n'
        "</testsuites>\n"
    )


def _clean(text: str) -> str:
    """Text without what XML cannot hold."""
    return visible(text).encode("utf-8", "replace").decode("utf-8")
