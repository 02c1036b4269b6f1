"""Commands that are killed, or find the disk full, at random ones of their changes to files."""

import json
import os
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.hostile.strikes import Strikes, contents, killed, partials, run
from tests.scanning.checkpoints import Checkpoints, save

QUESTION = ("-k", "4", "--roles", "q_proj", "--layers", "0", "-q")
# What a command is asked, the options that made what is there before, and those of the command that is struck.
COMMANDS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "mitigate": (("{adapter}", *QUESTION, "-o", "out"), ("--lambda", "0.2"), ("--lambda", "0.6")),
    "scan": (("{adapter}", *QUESTION, "-o", "out"), ("--seed", "1"), ("--seed", "2")),
    "intruders": (("{adapter}", *QUESTION, "--html", "out.html"), (), ("--epsilon", "0.4")),
    "resize": (("{adapter}", "--no-count", "-q", "-o", "out"), ("--rank", "1"), ("--rank", "2")),
    "extract": (
        ("{full}", "--base", "{base}", "--roles", "q_proj", "--no-count", "-q", "-o", "out"),
        ("--rank", "1"),
        ("--rank", "2"),
    ),
    "merge": (
        ("{adapter}", "{other}", "--no-critical", "--rank", "2", *QUESTION, "-o", "out", "--checkpoint", "whole"),
        ("--weights", "1,2"),
        ("--weights", "1,1"),
    ),
    "convert": (("{adapter}", "-o", "out"), ("--to", "mlx"), ("--to", "peft")),
}


@pytest.fixture(scope="module")
def strikes() -> Strikes:
    return Strikes()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    return save(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("SPECTRA_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def whole(files: dict[str, bytes]) -> dict[str, Any]:
    """What files say, times and provenance aside: of the same command it is the same."""
    told: dict[str, Any] = {}
    for name, content in files.items():
        if name.endswith(".html"):
            assert content.rstrip().endswith(b"</html>")
            told[name] = len(re.findall(rb"<tr", content))
        elif name.endswith(".json"):
            told[name] = {key: value for key, value in json.loads(content).items() if key in ("k", "epsilon", "files")}
        else:
            told[name] = len(content) if name.endswith(".safetensors") else None
    return told


@pytest.mark.parametrize("name", COMMANDS)
def test_a_struck_command_leaves_what_was_there_or_all_of_the_new(
    saved: Checkpoints, strikes: Strikes, work: Path, name: str
) -> None:
    asked, *both = COMMANDS[name]
    places = {"adapter": saved.adapters[1], "other": saved.adapters[0], "full": saved.full, "base": saved.base}
    question = [part.format(**places) for part in asked]
    make_old, make_new = ([name, *question, *options, "--force"] for options in both)
    here, inputs = work / "work", contents(saved.base.parent)
    assert run(make_new).exit_code == 0
    after = whole(contents(here))
    assert run(make_old).exit_code == 0
    shutil.copytree(here, work / "old")
    shutil.rmtree(work / "cache", ignore_errors=True)
    with strikes.at(work, 0, kill=False):
        assert run(make_new).exit_code == 0
    drawn = random.Random(name)
    for kill in (True, False) * (2 if name in ("mitigate", "scan") else 1):
        moment = drawn.randint(1, strikes.count)
        for folder in (here, work / "cache"):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(work / "old", here)
        os.chdir(here)
        before = contents(here)
        if kill:
            assert killed(strikes, work, make_new, moment)
            now = contents(here)
            for destination in {name.partition("/")[0] for name in before}:
                old, new = (of(destination, files) for files in (before, now))
                assert new == old or whole(new) == of(destination, after)
        else:
            with strikes.at(work, moment, kill=False):
                result = run(make_new)
            assert_told(result, unchanged=contents(here) == before)
            assert not partials(work)
        assert contents(saved.base.parent) == inputs
        assert run(make_new).exit_code == 0
        assert whole(contents(here)) == after
        assert not partials(work), moment


def of(destination: str, files: dict[str, Any]) -> dict[str, Any]:
    """The files of one destination of a command."""
    return {name: content for name, content in files.items() if name.partition("/")[0] == destination}


def assert_told(result: Result, *, unchanged: bool) -> None:
    """A full disk ends a command in one sentence and leaves what was there, unless only the cache found no room."""
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    if result.exit_code == 0:
        assert "Nothing is kept in" in result.output or not unchanged
        return
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr and "Make room, or write elsewhere." in result.stderr
    assert result.stderr.count("Error: ") == 1 and "Traceback" not in result.output
