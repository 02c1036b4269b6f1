"""The size of every kind of model that a sweep trains, each built once without weights."""

import json
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from spectra.training.settings import TrainingSettings
from spectra.training.skeleton import Bare, Skeleton, between, skeleton


@dataclass
class Sizes:
    """Sizes by what decides them: by the rank, and by everything else."""

    known: dict[str, dict[int, Skeleton]] = field(default_factory=dict)

    def of(self, settings: TrainingSettings) -> Skeleton | None:
        """The size of what these settings train; None where no model could be built."""
        return self.known.get(_key(settings), {}).get(settings.rank or 0)


def sizes(
    built: Bare, trainings: Iterable[TrainingSettings], noted: Callable[[], AbstractContextManager[None]]
) -> Sizes:
    """Build every method on a base once; of a LoRA of many ranks, the smallest and the largest.

    Cost: peft takes some milliseconds per adapted module, which for a hundred ranks of a large base are minutes.

    Args:
        built: The base.
        trainings: All trainings of the sweep.
        noted: Notes the SpectraError of one method, and goes on.
    """
    alike: dict[str, dict[int, TrainingSettings]] = {}
    for settings in trainings:
        alike.setdefault(_key(settings), {}).setdefault(settings.rank or 0, settings)
    return Sizes({key: _by_rank(built, by_rank, noted) for key, by_rank in alike.items()})


def _by_rank(
    built: Bare, alike: dict[int, TrainingSettings], noted: Callable[[], AbstractContextManager[None]]
) -> dict[int, Skeleton]:
    """The sizes of settings that differ in rank alone."""
    found: dict[int, Skeleton] = {}
    lowest, highest = min(alike), max(alike)
    for rank in sorted(alike, key=lambda rank: (rank not in (lowest, highest), rank)):
        low, high = found.get(lowest), found.get(highest)
        if low is not None and high is not None and low.is_plain_lora and high.is_plain_lora:
            found[rank] = between(low, high, (rank - lowest) / (highest - lowest))
            continue
        with noted():
            found[rank] = skeleton(built, alike[rank])
    return found


def _key(settings: TrainingSettings) -> str:
    """What decides the shapes of what is trained, beside the rank and what all trials share."""
    arguments = json.dumps(settings.arguments, sort_keys=True, default=str) if settings.arguments else ""
    return f"{settings.method} {settings.target_modules!r} {arguments}"
