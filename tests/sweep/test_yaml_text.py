"""YAML as people write it, and as it must not be written."""

from pathlib import Path
from typing import Any

import pytest

from spectra.errors import SpecificationError
from spectra.sweep import read_specification
from spectra.sweep.spec.yaml_text import read_yaml

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcde", "bcdef", strict=True)
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x: &one {p: 1, q: 2}\ny: {<<: *one, p: 3}\n", {"x": {"p": 1, "q": 2}, "y": {"q": 2, "p": 3}}),
        ("x: &one {p: 1}\nz: &two {q: 2}\ny: {<<: [*one, *two]}\n", {"p": 1, "q": 2}),
        ("x: &one [1, 2]\ny: *one\n", {"x": [1, 2], "y": [1, 2]}),
        ("1: a\n'1': b\n", {1: "a", "1": "b"}),
        ("", None),
    ],
)
def test_aliases_and_merge_keys_are_read(text: str, value: Any) -> None:
    found, _ = read_yaml("sweep.yaml", text)
    assert found == value or found["y"] == value


def test_the_line_of_a_merged_field_is_where_it_is_written() -> None:
    _, lines = read_yaml("sweep.yaml", "x: &one\n  p: 1\ny:\n  <<: *one\n  q: 2\n")
    assert (lines["y", "p"], lines["y", "q"]) == (2, 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: 'a' is written a second time, after line 1. Correct the line."),
        ("a: [{b: 1, b: 2}]\n", "line 1: 'b' is written a second time, after line 1. Correct the line."),
        ("a: 1\nb: &b [*b]\n", "line 2: this refers to itself. Correct the line."),
        ("a: &a {b: {c: *a}}\n", "line 1: this refers to itself. Correct the line."),
        ("a: 1\nb: \x07\n", "line 2: the character U+0007 may not stand in YAML. Correct the line."),
        ("a: 2024-13-45\n", "holds a value that YAML cannot read (month must be in 1..12). Put it in quotes."),
        ("? [1, 2]\n: 3\n", "line 1: this is no YAML (found unhashable key). Correct the line."),
        ("a: *nothing\n", "line 1: this is no YAML (found undefined alias 'nothing'). Correct the line."),
        ("<<: 3\n", "expected a mapping or list of mappings for merging"),
        ("[" * 3000, "is nested too deeply"),
        (BOMB, "aliases make more than 100,000 values of this text"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(text)
    with pytest.raises(SpecificationError) as raised:
        read_specification(tmp_path / "sweep.yaml")
    assert message in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("alpha", [".r", "nan", "inf", "-1", "0r", "r2", "true", "[]", "1e400", float("nan"), True])
def test_an_alpha_is_positive_and_finite(alpha: Any) -> None:
    method = {"method": "lora", "rank": 8, "alpha": alpha, "learning_rate": 1e-3}
    with pytest.raises(SpecificationError, match="alpha"):
        read_specification({"base": "b", "task": "t", "methods": [method], "steps": 1})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("seeds", 2**32, "seeds.0: input should be less than or equal to 4294967295"),
        ("seeds", "0..9999999999", "holds more than 100,000 numbers; give a smaller range"),
        ("warmup", float("nan"), "warmup: input should be a finite number"),
        ("epochs", float("inf"), "epochs: input should be a finite number"),
        ("heldout", [{"task": "x", "limits": 3}], "'heldout.0.limits' is no field. Did you mean 'limit'?"),
        ("heldout", [{"task": "x", "limit": "many"}], "heldout.0.limit: input should be a valid integer"),
    ],
)
def test_what_no_training_can_take_is_said_with_its_place(field: str, value: Any, message: str) -> None:
    given = {"base": "b", "task": "t", "methods": [{"method": "full", "learning_rate": 1e-3}]}
    steps = {} if field == "epochs" else {"steps": 1}
    with pytest.raises(SpecificationError) as raised:
        read_specification({**given, **steps, field: value})
    assert message in str(raised.value)
