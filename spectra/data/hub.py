"""Tasks from the hub, through `datasets`: works online, or offline with what is in its cache."""

from datasets import ClassLabel, Dataset, DatasetDict, load_dataset

from spectra.data.columns import checked_rows, infer_kind
from spectra.data.local_files import cut
from spectra.data.task import Row, TaskData, TaskKind, TaskSpec, assemble
from spectra.errors import DataError


def load_hub_task(spec: TaskSpec) -> TaskData:
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
    train = _split(splits, spec, spec.train_split)
    kind = spec.kind or infer_kind((f"'{spec.hub}'", train[0]), spec)
    names = spec.label_names
    feature = train.features.get(spec.label)
    if kind == "classification" and not names and isinstance(feature, ClassLabel):
        names = tuple(feature.names)
    rows = cut(
        _rows(train, spec, kind, spec.train_split),
        spec,
        given=lambda name: _rows(_split(splits, spec, name), spec, kind, name),
    )
    return assemble(spec.name, kind, rows, source=f"hub data set '{spec.hub}'", label_names=names)


def _split(splits: DatasetDict, spec: TaskSpec, name: str) -> Dataset:
    if name not in splits:
        raise DataError(f"Data set '{spec.hub}' has no split '{name}'. Use one of {', '.join(splits)}.")
    return splits[name]


def _rows(split: Dataset, spec: TaskSpec, kind: TaskKind, name: str) -> list[Row]:
    located = ((f"'{spec.hub}', split '{name}', row {number}", row) for number, row in enumerate(split, start=1))
    return list(checked_rows(located, spec, kind))
