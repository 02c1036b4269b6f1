"""Reading a specification: YAML or a mapping, axes from the command line, and errors that say where and what to do."""

import difflib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from spectra.errors import SpecificationError
from spectra.storage.regular import read_regular
from spectra.sweep.spec.axes import apply_axes
from spectra.sweep.spec.specification import (
    CheckpointSpecification,
    HeldOutSpecification,
    LaunchSpecification,
    MethodSpecification,
    Specification,
)
from spectra.sweep.spec.yaml_text import Place, read_yaml

Read = TypeVar("Read", bound=Specification)
SHOWN = 5
# Far above any sweep, far below what takes seconds.
MAX_BYTES = 1_000_000


def presets(package: str = "spectra.sweep") -> list[str]:
    """Names of the specifications that come with a package."""
    files = resources.files(package).joinpath("presets").iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def read_specification(
    source: Specification | Mapping[str, Any] | Path | str, axes: Sequence[str] = ()
) -> Specification:
    """A validated specification of a sweep; see `read_as`."""
    return read_as(Specification, source, axes, "spectra.sweep")


def read_as(
    model: type[Read], source: Specification | Mapping[str, Any] | Path | str, axes: Sequence[str], package: str
) -> Read:
    """A validated specification.

    Args:
        model: What it is a specification of.
        source: A specification, a mapping with its fields, the path of a YAML file, or the name of a preset.
        axes: What the command line adds, such as "rank=1,8,64" or "seed=0..2".
        package: The package whose presets are known by name.

    Raises:
        SpecificationError: If a field is unknown, missing or impossible; the message names it, its line and a remedy.
    """
    if isinstance(source, Specification):
        source = source.model_dump(exclude_unset=True)
    if isinstance(source, Mapping):
        return _validated(model, apply_axes(dict(source), axes), "the specification", {})
    name, text = _text(source, package)
    values, lines = _parsed(name, text)
    return _validated(model, apply_axes(values, axes), name, lines)


def _text(source: Path | str, package: str) -> tuple[str, str]:
    known = presets(package)
    if isinstance(source, str) and source in known:
        return f"preset '{source}'", resources.files(package).joinpath(f"presets/{source}.yaml").read_text("utf-8")
    path = Path(source)
    if path.is_dir() or not path.exists():
        raise SpecificationError(
            f"There is no specification '{source}'. Name a YAML file or one of the presets {', '.join(known)}."
        )
    try:
        return f"'{source}'", read_regular(path, MAX_BYTES, SpecificationError).decode("utf-8")
    except UnicodeDecodeError as error:
        raise SpecificationError(f"'{source}' is not UTF-8 at byte {error.start}. Save it as UTF-8.") from error


def _parsed(name: str, text: str) -> tuple[dict[str, Any], dict[Place, int]]:
    """The mapping of a YAML text, and the line of each of its places."""
    values, lines = read_yaml(name, text)
    if not isinstance(values, dict):
        raise SpecificationError(f"{name} holds no fields. Write at least base, task, methods and steps.")
    return values, lines


def _validated(model: type[Read], values: Mapping[str, Any], name: str, lines: Mapping[Place, int]) -> Read:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = [_sentence(detail, name, lines, model) for detail in error.errors()]
    more = [f"({len(problems) - SHOWN} more)"] if len(problems) > SHOWN else []
    raise SpecificationError(" ".join([*problems[:SHOWN], *more]))


def _sentence(detail: ErrorDetails, name: str, lines: Mapping[Place, int], model: type[Specification]) -> str:
    """One problem: where, what, and what to do."""
    place = tuple(part for part in detail["loc"] if not _is_tag(part))
    known = next((place[:length] for length in range(len(place), 0, -1) if place[:length] in lines), None)
    where = f"{name}, line {lines[known]}" if known else name
    field = ".".join(str(part) for part in place)
    if detail["type"] == "extra_forbidden":
        return f"{where}: '{field}' is no field. {_nearest(place, model)}"
    if detail["type"] == "missing":
        return f"{where}: '{field}' is missing. Add it."
    message = detail["msg"].removeprefix("Value error, ")
    given = "" if detail["type"] == "value_error" else f", not {detail['input']!r}"
    what = f"{field}: " if field else ""
    return f"{where}: {what}{message[:1].lower()}{message[1:]}{given}. Correct it."


def _is_tag(part: str | int) -> bool:
    """Pydantic adds the branch of a union to a place; no field of a specification looks like one."""
    return isinstance(part, str) and ("[" in part or part in ("str", "int", "float", "HeldOutSpecification"))


def _nearest(place: Place, model: type[BaseModel]) -> str:
    inner: dict[str, type[BaseModel]] = {
        "methods": MethodSpecification,
        "heldout": HeldOutSpecification,
        "checkpoints": CheckpointSpecification,
        "launch": LaunchSpecification,
    }
    for part in place[:-1]:
        own = model.model_fields[str(part)].annotation if str(part) in model.model_fields else None
        model = inner.get(str(part), own if isinstance(own, type) and issubclass(own, BaseModel) else model)
    fields = list(model.model_fields)
    near = difflib.get_close_matches(str(place[-1]), fields, n=1)
    return f"Did you mean '{near[0]}'?" if near else f"Use one of {', '.join(fields)}."
