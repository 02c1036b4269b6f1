"""Axes on the command line: `rank=1,8,64 alpha=2r,8 seed=0..2 steps=100`."""

import copy
from collections.abc import Sequence
from typing import Any

from spectra.errors import SpecificationError
from spectra.records.naming import trains_all_weights
from spectra.sweep.spec.values import one_or_many
from spectra.sweep.spec.yaml_text import read_yaml
from spectra.training.adapt import METHODS

PLURAL = {"seed": "seeds"}
LISTS = ("seeds", "heldout")
PER_METHOD = ("rank", "alpha", "learning_rate", "target_modules")


def apply_axes(values: dict[str, Any], axes: Sequence[str]) -> dict[str, Any]:
    """A copy of the fields with the axes put in.

    rank, alpha, learning_rate and target_modules go to every method that has them; `method` chooses among the
    methods, or makes a new one in the image of the first adapter method; everything else is a field of its own.
    """
    values = copy.deepcopy(values)
    for axis in axes:
        name, equals, given = axis.partition("=")
        name = PLURAL.get(name, name)
        if not equals or not name or not given:
            raise SpecificationError(
                f"'{axis}' on the command line is no axis. Write NAME=VALUES, such as rank=1,8,64."
            )
        if name == "method":
            values["methods"] = _chosen(values.get("methods"), one_or_many(given))
        elif name in PER_METHOD:
            for entry in _entries(values):
                if _has(entry, name):
                    entry[name] = one_or_many(given) if name != "target_modules" else given
        else:
            values[name] = one_or_many(given) if name in LISTS else read_yaml(f"'{axis}' on the command line", given)[0]
    return values


def _entries(values: dict[str, Any]) -> list[dict[str, Any]]:
    methods = values.get("methods")
    return [entry for entry in methods if isinstance(entry, dict)] if isinstance(methods, list) else []


def _has(entry: dict[str, Any], name: str) -> bool:
    method = METHODS.get(str(entry.get("method")))
    if method is None or name == "learning_rate":
        return True
    return {"rank": method.has_rank, "alpha": method.has_alpha}.get(name, method.config is not None)


def _chosen(methods: Any, names: list[str]) -> list[dict[str, Any]]:
    entries = _entries({"methods": methods})
    chosen: list[dict[str, Any]] = []
    for name in names:
        named = [entry for entry in entries if entry.get("method") == name]
        adapters = [entry for entry in entries if not trains_all_weights(str(entry.get("method")))]
        if not named and not adapters:
            raise SpecificationError(f"method={name} has no settings. Add an entry for '{name}' under methods.")
        chosen += named or [_in_the_image_of(adapters[0], name)]
    return chosen


def _in_the_image_of(entry: dict[str, Any], name: str) -> dict[str, Any]:
    new = {"method": name, **{key: value for key, value in entry.items() if key not in ("method", "arguments")}}
    return {key: value for key, value in new.items() if key == "method" or _has(new, key)}
