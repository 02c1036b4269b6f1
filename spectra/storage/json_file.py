"""Read JSON objects that others may have made; whatever is wrong with one becomes one sentence."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from spectra.errors import CheckpointError, SpectraError
from spectra.storage.regular import read_regular

# Far above any configuration, index or record; a text of this size is parsed in about a second.
MAX_JSON_BYTES = 50_000_000


def read_object(
    path: Path,
    *,
    error: type[SpectraError] = CheckpointError,
    remedy: str = "Download or save it again.",
    largest: int = MAX_JSON_BYTES,
) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: A file.
        error: What to raise.
        remedy: The last sentence of the message when the content is wrong.
        largest: Bytes above which it is not read.

    Raises:
        SpectraError: Of the kind `error`, if the file is unreadable, too large, no UTF-8, no JSON, or no object.
    """
    content = read_regular(path, largest, error)
    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=distinct)
    except RecursionError as cause:
        raise error(f"'{path}' is not valid JSON (it is nested too deeply). {remedy}") from cause
    except ValueError as cause:
        raise error(f"'{path}' is not valid JSON ({cause}). {remedy}") from cause
    if not isinstance(value, dict):
        raise error(f"'{path}' holds a {type(value).__name__}, not an object. {remedy}")
    return value


def require_finite(value: object, path: Path, error: type[SpectraError], remedy: str) -> None:
    """Refuse a JSON value with NaN or infinity in it: Python reads them (1e999, too), and no JSON file can hold them.

    Raises:
        SpectraError: Of the kind `error`.
    """
    waiting = [value]
    while waiting:
        match waiting.pop():
            case dict() as found:
                waiting += found.values()
            case list() as found:
                waiting += found
            case float() as found if not math.isfinite(found):
                raise error(f"'{path}' holds the number {found}. {remedy}")


def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are distinct: readers disagree on which of two values counts.

    Raises:
        ValueError: Naming one that stands in it twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"'{twice}' stands in it twice")
    return found
