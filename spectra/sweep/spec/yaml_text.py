"""YAML as a specification may be written in it: every key once, merge keys allowed, nothing that holds itself."""

from collections.abc import Iterator
from typing import Any

import yaml

from spectra.errors import SpecificationError

Place = tuple[str | int, ...]
MERGE = "tag:yaml.org,2002:merge"
WHOLE = "tag:yaml.org,2002:int"
MOST_PLACES = 100_000
# Whole numbers of 64 bits, which tables and tensors hold; shorter spellings are never larger.
TOO_LARGE, DIGITS = 2**63, 17


def read_yaml(name: str, text: str) -> tuple[Any, dict[Place, int]]:
    """The value of a YAML text, and the line of each of its places.

    Args:
        name: What the text is called in messages.
        text: The text.

    Raises:
        SpecificationError: If it is no YAML, names a key twice, or refers to itself.
    """
    try:
        node = yaml.compose(text, yaml.SafeLoader)
        if node is None:
            return None, {}
        lines = dict(_lines(node, (), name))
        return _value(node), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        why = error.problem or error.context or "malformed"
        raise _refusal(name, mark.line + 1 if mark else 1, f"this is no YAML ({why})") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position if isinstance(error.position, int) else 0) + 1
        raise _refusal(name, line, f"the character U+{_code(error):04X} may not stand in YAML") from error
    except RecursionError as error:
        raise SpecificationError(f"{name} is nested too deeply. Write it in fewer levels.") from error
    except (ValueError, OverflowError) as error:  # such as the 45th of a month
        raise SpecificationError(f"{name} holds a value that YAML cannot read ({error}). Put it in quotes.") from error


def _refusal(name: str, line: int, what: str) -> SpecificationError:
    return SpecificationError(f"{name}, line {line}: {what}. Correct the line.")


def _code(error: yaml.reader.ReaderError) -> int:
    return error.character if isinstance(error.character, int) else ord(error.character)


def _value(node: yaml.Node) -> Any:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _lines(
    node: yaml.Node, place: Place, name: str, above: tuple[yaml.Node, ...] = (), count: list[int] | None = None
) -> Iterator[tuple[Place, int]]:
    """Every place with its line; refuses what a mapping of Python would swallow."""
    count = [0] if count is None else count
    count[0] += 1
    line = node.start_mark.line + 1
    if count[0] > MOST_PLACES:
        raise _refusal(name, line, f"aliases make more than {MOST_PLACES:,} values of this text")
    if any(node is outer for outer in above):
        raise _refusal(name, line, "this refers to itself")
    if node.tag == WHOLE and len(node.value) >= DIGITS and abs(_value(node)) >= TOO_LARGE:
        raise _refusal(name, line, f"the number {node.value[:DIGITS]}... is larger than any that is computed with")
    yield place, line
    inside = (*above, node)
    if isinstance(node, yaml.MappingNode):
        yield from _of_mapping(node, place, name, inside, count)
    elif isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            yield from _lines(value, (*place, position), name, inside, count)


def _of_mapping(
    node: yaml.MappingNode, place: Place, name: str, above: tuple[yaml.Node, ...], count: list[int]
) -> Iterator[tuple[Place, int]]:
    written: dict[Any, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.tag == MERGE:
            for one in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                yield from _lines(one, place, name, above, count)
            continue
        found = _value(key) if isinstance(key, yaml.ScalarNode) else str(key.value)
        if found in written:
            raise _refusal(name, line, f"'{found}' is written a second time, after line {written[found]}")
        written[found] = line
        yield from _lines(value, (*place, found), name, above, count)
        yield (*place, found), line
