"""Names for people: what is different is called differently."""

import hashlib
import json
from collections.abc import Hashable, Mapping
from pathlib import PurePath
from typing import Any, TypeVar

Key = TypeVar("Key", bound=Hashable)
LONGEST = 24  # characters of a value that is written out in a name


def told_apart(names: Mapping[Key, str], facts: Mapping[Key, Mapping[str, Any]]) -> dict[Key, str]:
    """Names in which equal ones are followed by what differs between them, in parentheses.

    Args:
        names: What each thing is called.
        facts: What is known of each thing, by field; compared between things of one name only.

    Returns:
        A name per thing, no two the same; what nothing known tells apart is numbered.
    """
    told = dict(names)
    sharing: dict[str, list[Key]] = {}
    for key, name in names.items():
        sharing.setdefault(name, []).append(key)
    for name, keys in sharing.items():
        if len(keys) > 1:
            different = _differences({key: facts[key] for key in keys})
            told |= {key: f"{name} ({', '.join(different[key])})" for key in keys if different[key]}
    return _numbered(told)


def trains_all_weights(method: str) -> bool:
    """Whether a training method is full fine-tuning, by itself ("full") or with something added ("full-replay")."""
    return method == "full" or method.startswith("full-")


def written(value: Any) -> str:
    """A value in a name: as it is, or the beginning of its hash where it would be long."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return text if len(text) <= LONGEST else f"#{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def tails(paths: Mapping[Key, str]) -> dict[Key, str]:
    """Each path's last parts, as few as tell different paths apart."""
    parts = {key: PurePath(path).parts or (path,) for key, path in paths.items()}
    for length in range(1, max((len(one) for one in parts.values()), default=1) + 1):
        shortened = {key: str(PurePath(*one[-length:])) for key, one in parts.items()}
        if len(set(shortened.values())) == len(set(paths.values())):
            return shortened
    return dict(paths)


def _numbered(names: Mapping[Key, str]) -> dict[Key, str]:
    taken: set[str] = set()
    told = {}
    for key, name in names.items():
        number, unique = 1, name
        while unique in taken:
            number += 1
            unique = f"{name} #{number}"
        taken.add(unique)
        told[key] = unique
    return told


def _differences(facts: Mapping[Key, Mapping[str, Any]]) -> dict[Key, list[str]]:
    """For each thing the fields in which not all agree, written out; paths as short as they may be."""
    fields = list(dict.fromkeys(field for known in facts.values() for field in known))
    found: dict[Key, list[str]] = {key: [] for key in facts}
    for field in fields:
        values = {key: known.get(field) for key, known in facts.items()}
        if len({json.dumps(value, sort_keys=True, default=str) for value in values.values()}) == 1:
            continue
        if all(isinstance(value, str) for value in values.values()):
            short = tails({key: str(value) for key, value in values.items()})
            for key in facts:
                found[key].append(short[key])
        else:
            for key, value in values.items():
                if value is not None:
                    found[key].append(f"{field} {written(value)}")
    return found
