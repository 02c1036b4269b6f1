"""A metric: the nuclear norm of the update."""

from collections.abc import Iterator

from spectra.records import Measure, Metric, MetricGroup
from spectra.scanning.facts import PairFacts


def nuclear(facts: PairFacts) -> Iterator[Measure]:
    """||delta_W||_* = sum S, S of delta_W; and its ratio to ||delta_W||_F."""
    total = float(facts.delta_values.sum())
    yield Measure("nuclear.norm", total)
    size = facts.delta_frobenius
    if size > 0:
        yield Measure("nuclear.ratio", total / size)
    else:
        yield Measure("nuclear.ratio", None, "not computed", note="delta_W is zero")


NUCLEAR = MetricGroup(
    "nuclear",
    "nuclear norm of delta_W (factorises a dense update)",
    (
        Metric("nuclear.norm", "|dW|_*", "||delta_W||_* = sum S", "sum"),
        Metric("nuclear.ratio", "|dW|_* / |dW|", "sum S / ||delta_W||_F"),
    ),
    nuclear,
    has_controls=True,
)
