"""The outputs of a classification head by their names, in configurations and beside adapters."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spectra.storage.atomic import write_json
from spectra.storage.json_file import read_object

LABELS_FILE = "label_names.json"  # beside an adapter, whose own configuration has no place for them


def output_names(config: Any) -> tuple[str, ...]:
    """Names of the head's outputs, by number; LABEL_0 and the like where nobody gave any."""
    names = getattr(config, "id2label", None) or {}
    return tuple(str(names.get(position, f"LABEL_{position}")) for position in range(getattr(config, "num_labels", 0)))


def name_outputs(config: Any, names: Sequence[str]) -> None:
    """Write names of labels into a model's configuration, which every saved checkpoint carries."""
    config.id2label = dict(enumerate(names))
    config.label2id = {name: position for position, name in enumerate(names)}


def write_label_names(folder: Path, names: Sequence[str]) -> None:
    """Write the names beside an adapter."""
    write_json(folder / LABELS_FILE, {"label_names": list(names)})


def adapter_label_names(folder: Path) -> tuple[str, ...]:
    """The names beside an adapter; empty where there are none."""
    file = folder / LABELS_FILE
    return tuple(map(str, read_object(file).get("label_names", ()))) if file.is_file() else ()
