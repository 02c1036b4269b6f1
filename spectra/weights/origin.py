"""Where a checkpoint that this package wrote comes from: a small JSON file beside it, with the base's fingerprint."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from spectra.errors import CheckpointError
from spectra.records.provenance import versions
from spectra.storage.json_file import read_object

ORIGIN = "spectra_origin.json"


@dataclass(frozen=True)
class Origin:
    """What a checkpoint was made from, and how.

    Attributes:
        base: The base as it was named.
        fingerprint: The base's fingerprint.
        made_by: What made it, such as "spectra mitigate --scale 0.5".
        source: The checkpoint it was made from, if it was made from one.
        versions: Versions of the software.
    """

    base: str
    fingerprint: tuple[float, ...]
    made_by: str
    source: str | None = None
    versions: Mapping[str, str] = field(default_factory=versions)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of the file."""
        return {**asdict(self), "fingerprint": list(self.fingerprint), "versions": dict(self.versions)}


def read_origin(folder: Path) -> Origin | None:
    """The recorded origin of a checkpoint folder, or None when it records none.

    Raises:
        CheckpointError: If the record is malformed.
    """
    path = folder / ORIGIN
    if not path.is_file():
        return None
    match read_object(path):
        case {"base": str(base), "fingerprint": [*values], "made_by": str(made_by), **rest} if all(
            isinstance(value, int | float) for value in values
        ):
            source, recorded = rest.get("source"), rest.get("versions")
            return Origin(
                base,
                tuple(float(value) for value in values),
                made_by,
                source if isinstance(source, str) else None,
                recorded if isinstance(recorded, dict) else {},
            )
    raise CheckpointError(f"'{path}' is no record of an origin. Delete it.")
