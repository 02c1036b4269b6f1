"""Tasks from the user's own files: CSV, JSON lines, Parquet, plain text. Every error names file, line and column."""

from collections.abc import Callable
from pathlib import Path

from spectra.data.columns import checked_rows, decide_kind
from spectra.data.readers import READERS, Located, Reading
from spectra.data.rows import Counted, Splits
from spectra.data.spec import TaskKind, TaskSpec
from spectra.data.splits import ordered, split, without, without_duplicates
from spectra.data.task import TaskData, assemble
from spectra.errors import DataError
from spectra.storage.regular import require_regular

LARGEST_VALIDATION, LARGEST_TEST = 1000, 2000  # rows set aside when the specification does not say


def load_local_task(spec: TaskSpec, *, held_out: bool = False) -> TaskData:
    """Read, check, deduplicate and split the files that a specification names.

    Args:
        spec: Where they are, and how they are to be read.
        held_out: Nothing is trained on the task: without splits of its own, all rows are test rows.
    """
    located = _located(Path(spec.path or ""), spec)
    kind = decide_kind(located, spec)

    def given(file: str) -> Counted:
        return _rows(_located(Path(file), spec), spec, kind)

    splits = cut(_rows(located, spec, kind), spec, given=given, held_out=held_out)
    return assemble(
        spec.name, kind, splits, source=f"file '{spec.path}'", label_names=spec.label_names, held_out=held_out
    )


def cut(train: Counted, spec: TaskSpec, *, given: Callable[[str], Counted], held_out: bool = False) -> Splits:
    """The three splits: `given` reads one that is named, the others are set aside from the training rows.

    Rows of a named test or validation split are removed from the splits before it, so that all are disjoint.
    """
    nothing = Counted.of([])
    if held_out and not spec.names_splits:
        return nothing, nothing, ordered(without_duplicates(train), spec.seed)
    test = without_duplicates(given(spec.test)) if isinstance(spec.test, str) else None
    validation = without_duplicates(given(spec.validation)) if isinstance(spec.validation, str) else None
    if validation is not None:
        validation = without(validation, {"test": test or nothing})
    rest = without(without_duplicates(train), {"test": test or nothing, "validation": validation or nothing})
    sizes = {
        "validation": 0 if validation is not None else _size(spec.validation, len(rest.rows), LARGEST_VALIDATION),
        "test": 0 if test is not None else _size(spec.test, len(rest.rows), LARGEST_TEST),
    }
    if not rest.rows:  # `assemble` says why
        return rest, validation or nothing, test or nothing
    rest, more_validation, more_test = split(rest, name=spec.name, seed=spec.seed, **sizes)
    return rest, more_validation if validation is None else validation, more_test if test is None else test


def _size(asked: str | int | float | None, rows: int, largest: int) -> int:
    """Rows to set aside: as many, this share of them, or a tenth."""
    if isinstance(asked, float):
        return max(1, round(asked * rows))
    return asked if isinstance(asked, int) else max(1, min(largest, rows // 10))


def _located(path: Path, spec: TaskSpec) -> list[Located]:
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"File '{path}' has the suffix {path.suffix!r}. Use one of {', '.join(READERS)}.")
    require_regular(path, DataError)
    if not path.is_file():
        raise DataError(f"File '{path}' of task '{spec.name}' does not exist. Check its path.")
    if spec.unit != "paragraph" and path.suffix.lower() != ".txt":
        raise DataError(f"Task '{spec.name}' has unit {spec.unit}, and '{path}' is no .txt file. Remove unit.")
    located = list(reader(path, Reading(spec.unit, spec.quotes)))
    if not located:
        raise DataError(f"File '{path}' of task '{spec.name}' has no rows. Give a file with examples.")
    if len(located) == 1 and spec.unit == "paragraph" and located[0][1].get("text", "").count("\n") > 1:
        raise DataError(
            f"File '{path}' of task '{spec.name}' is one text, for it has no blank line. "
            "State `unit: line` if every line is a text, or `unit: file`."
        )
    return located


def _rows(located: list[Located], spec: TaskSpec, kind: TaskKind) -> Counted:
    return Counted.of(checked_rows(located, spec, kind))
