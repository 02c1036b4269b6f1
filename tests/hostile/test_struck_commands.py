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

QUESTION = ("-k", "4", "--roles", "q_proj", "--layers", "0", "-q", "--force")
# The options that made what is there before, and those of the command that is struck.
COMMANDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "mitigate": (("--lambda", "0.2", "-o", "out"), ("--lambda", "0.6", "-o", "out")),
    "scan": (("-o", "out", "--seed", "1"), ("-o", "out", "--seed", "2")),
    "intruders": (("--html", "out.html"), ("--html", "out.html", "--epsilon", "0.4")),
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
    make_old, make_new = ([name, str(saved.adapters[1]), *options, *QUESTION] for options in COMMANDS[name])
    here, inputs = work / "work", contents(saved.base.parent)
    assert run(make_new).exit_code == 0
    after = whole(contents(here))
    assert run(make_old).exit_code == 0
    shutil.copytree(here, work / "old")
    shutil.rmtree(work / "cache")
    with strikes.at(work, 0, kill=False):
        assert run(make_new).exit_code == 0
    drawn = random.Random(name)
    for kill in (True, False) * (1 if name == "intruders" else 2):  # a report takes two seconds
        moment = drawn.randint(1, strikes.count)
        for folder in (here, work / "cache"):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(work / "old", here)
        os.chdir(here)
        before = contents(here)
        if kill:
            assert killed(strikes, work, make_new, moment)
            assert contents(here) == before or whole(contents(here)) == after
        else:
            with strikes.at(work, moment, kill=False):
                result = run(make_new)
            assert_told(result, unchanged=contents(here) == before)
            assert not partials(work)
        assert contents(saved.base.parent) == inputs
        assert run(make_new).exit_code == 0
        assert whole(contents(here)) == after
        assert not partials(work), moment


def assert_told(result: Result, *, unchanged: bool) -> None:
    """A full disk ends a command in one sentence and leaves what was there, unless only the cache found no room."""
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    if result.exit_code == 0:
        assert "Nothing is kept in" in result.output or not unchanged
        return
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr and "Make room, or write elsewhere." in result.stderr
    assert result.stderr.count("Error: ") == 1 and "Traceback" not in result.output
