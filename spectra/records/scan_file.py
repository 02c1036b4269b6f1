"""Reading a scan that a command printed as JSON."""

import json
from pathlib import Path

from spectra.errors import DataError
from spectra.records.intruder_scan import IntruderScan
from spectra.records.scan import Scan

# Far above the record of any model; a larger text would take minutes and gigabytes to be refused.
MAX_BYTES = 200_000_000


def read_scan(path: Path) -> Scan:
    """Read what `spectra scan --json` or `spectra intruders --json` printed.

    Raises:
        DataError: If the file is missing or holds something else.
    """
    try:
        if path.exists() and not path.is_file():
            raise DataError("it is no regular file")
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"it has more than {MAX_BYTES} bytes")
        facts = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(facts, dict):
            raise TypeError(f"it holds a {type(facts).__name__}")
        return Scan.from_dict(facts) if "format" in facts else IntruderScan.from_dict(facts)
    except FileNotFoundError as error:
        raise DataError(f"'{path}' does not exist. Name a run folder or the JSON of a scan.") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, DataError) as error:
        raise DataError(
            f"'{path}' is no scan of `spectra intruders CKPT --json` or `spectra scan CKPT --json` "
            f"({type(error).__name__}: {error}). Name a run folder or such a file."
        ) from error
