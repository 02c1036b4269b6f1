"""Tasks from the hub, through `datasets`: works online, or offline with what is in its cache."""

from pathlib import Path

from datasets import ClassLabel, Dataset, DatasetDict, Sequence, config, load_dataset

from spectra.data.columns import checked_rows, decide_kind
from spectra.data.local_files import cut
from spectra.data.readers import Located
from spectra.data.rows import Counted
from spectra.data.spec import NAMED_LABELS, TaskSpec
from spectra.data.task import TaskData, assemble
from spectra.errors import DataError


def is_cached(name: str) -> bool:
    """Whether something of a hub data set lies in the cache of `datasets`; the network is not touched."""
    return (Path(config.HF_DATASETS_CACHE) / name.replace("/", "___").lower()).is_dir()


def load_hub_task(spec: TaskSpec, *, held_out: bool = False) -> TaskData:
    """Load a hub data set; its code, if it has any, is not run.

    Raises:
        DataError: If the data set or a split cannot be had, or a row is malformed.
    """
    try:
        splits = load_dataset(spec.hub, spec.config, revision=spec.revision)
    except (OSError, ValueError, RuntimeError) as error:  # not found, offline, no such configuration, needs code
        reason = str(error).splitlines()[0]
        raise DataError(
            f"Data set '{spec.hub}' of task '{spec.name}' cannot be loaded: {reason}. "
            "Go online once, or name a local file with `path`."
        ) from error
    train = _split(splits, spec, spec.train_split or "train")
    located = _located(train, spec, spec.train_split or "train")
    if not located:
        raise DataError(f"Data set '{spec.hub}' of task '{spec.name}' has no training rows. Name another split.")
    names = spec.label_names or _class_names(train, spec)
    kind = spec.kind or ("classification" if names else decide_kind(located, spec))
    rows = cut(
        Counted.of(checked_rows(located, spec, kind)),
        spec,
        given=lambda name: Counted.of(checked_rows(_located(_split(splits, spec, name), spec, name), spec, kind)),
        held_out=held_out,
    )
    named = names if kind in NAMED_LABELS else ()
    return assemble(spec.name, kind, rows, source=f"hub data set '{spec.hub}'", label_names=named, held_out=held_out)


def _class_names(train: Dataset, spec: TaskSpec) -> tuple[str, ...]:
    """The names that the data set gives its labels."""
    feature = train.features.get(spec.column("label"))
    if isinstance(feature, Sequence):
        feature = feature.feature
    return tuple(feature.names) if isinstance(feature, ClassLabel) else ()


def _split(splits: DatasetDict, spec: TaskSpec, name: str) -> Dataset:
    if name not in splits:
        raise DataError(f"Data set '{spec.hub}' has no split '{name}'. Use one of {', '.join(splits)}.")
    return splits[name]


def _located(split: Dataset, spec: TaskSpec, name: str) -> list[Located]:
    return [(f"'{spec.hub}', split '{name}', row {number}", row) for number, row in enumerate(split, start=1)]
