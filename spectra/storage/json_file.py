"""Read the JSON files of a checkpoint; whatever is wrong with one becomes one sentence."""

import json
from pathlib import Path
from typing import Any

from spectra.errors import CheckpointError

MAX_JSON_BYTES = 200_000_000


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CheckpointError: If the file is unreadable, empty, no UTF-8, no JSON, or no object.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise CheckpointError(
                f"'{path}' has {path.stat().st_size} bytes, too many for a configuration. Check the path."
            )
        value = json.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise CheckpointError(
            f"'{path}' cannot be read ({error.strerror}). Check the path and its permissions."
        ) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"'{path}' is not valid JSON ({error}). Download or save it again.") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"'{path}' holds a {type(value).__name__}, not an object. Download or save it again.")
    return value
