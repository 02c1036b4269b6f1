"""What was registered in this process alone: workers are other processes, and do not know it."""

from collections.abc import Iterator

from spectra.data import TASKS
from spectra.errors import SpecificationError
from spectra.forgetting.catalogue import HELD_OUT_MEASURES
from spectra.registry import IN_THIS_PROCESS
from spectra.sweep.spec.specification import Specification
from spectra.training import metrics
from spectra.training.adapt import METHODS


def require_known_to_workers(specification: Specification) -> None:
    """Refuse what a call in this process made known by a name, before a worker fails on the name.

    Raises:
        SpecificationError: Naming it.
    """
    for noun, name, origin in _named(specification):
        if origin == IN_THIS_PROCESS:
            raise SpecificationError(
                f"The {noun} '{name}' was registered by a call in this process, and worker processes do not know it. "
                'Put the call into a module that --plugin (or SPECTRA_PLUGINS) names, or use executor="inline".'
            )


def _named(specification: Specification) -> Iterator[tuple[str, str, str | None]]:
    """Whatever the specification calls by a name, and where that comes from."""
    held_out = [one if isinstance(one, str) else one.task for one in specification.heldout]
    for task in (*specification.sequence, *held_out):
        if isinstance(task, str):
            name, _, measure = task.partition(":")
            yield "task", name, TASKS.origins.get(name)
            yield "held-out measure", measure, HELD_OUT_MEASURES.origins.get(measure)
    for one in specification.heldout:
        if not isinstance(one, str) and one.measure:
            yield "held-out measure", one.measure, HELD_OUT_MEASURES.origins.get(one.measure)
    for method in specification.methods:
        yield "method", method.method, METHODS.origins.get(method.method)
    if specification.validation_metric:
        yield "metric", specification.validation_metric, metrics.ORIGINS.get(specification.validation_metric)
