"""A disk that is full at a random change to files of a sweep: what was there stays, and the sweep goes on later."""

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from spectra.errors import SpectraError
from spectra.runs import SCHEMAS, Run
from spectra.sweep import run_sweep
from tests import tiny
from tests.hostile import full_disk
from tests.hostile.strikes import Strikes, contents, partials, run
from tests.sweep.conftest import assert_same_tables


@pytest.fixture(scope="module")
def strikes() -> Strikes:
    return Strikes()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with inputs, a run that has ended with one trial, and an undisturbed one of two."""
    folder = tmp_path_factory.mktemp("full")
    before, variables = Path.cwd(), dict(os.environ)
    os.environ["SPECTRA_CACHE"] = str(folder / "cache")
    os.chdir(folder)
    given = specification(folder)
    (folder / "sweep.yaml").write_text(yaml.safe_dump(given))
    run_sweep(given, folder / "earlier", executor="inline")
    shutil.copytree(folder / "earlier", folder / "undisturbed")
    run_sweep({**given, "seeds": [0, 1]}, folder / "undisturbed", executor="inline")
    yield folder
    os.chdir(before)
    os.environ.clear()
    os.environ.update(variables)


def specification(folder: Path) -> dict[str, Any]:
    return {
        "base": tiny.save_model(folder / "bert", "bert"),
        "task": tiny.save_sentiment(folder / "task.jsonl", 60),
        "heldout": [{"task": tiny.save_sentiment(folder / "held.jsonl", 40, seed=5), "max_length": 16}],
        "methods": [{"method": "lora", "rank": 2, "learning_rate": 3e-2}],
        "steps": 4,
        "batch_size": 4,
        "max_length": 16,
        "trajectory": 0,
        "controls": False,
        "seeds": [0],
    }


def assert_whole(out: Path, earlier: dict[str, bytes]) -> None:
    """The trials that were there are what they were, and everything else that is there can be read."""
    now = contents(out)
    kept = {file: content for file, content in earlier.items() if file.startswith("trials/") and "lock" not in file}
    assert {file: now.get(file) for file in kept} == kept
    assert Run.open(out).sweep["trials"]
    for name in SCHEMAS:
        Run.open(out).table(name)
    assert not partials(out)


def test_a_full_disk_at_any_moment_loses_nothing(place: Path, strikes: Strikes) -> None:
    more = {**specification(place), "seeds": [0, 1]}
    out, expected = place / "run", Run.open(place / "undisturbed")
    earlier = contents(place / "earlier")
    shutil.copytree(place / "earlier", out)
    with strikes.at(out, 0, kill=False):
        run_sweep(more, out, executor="inline", save_seconds=0.0)
    drawn, told = random.Random(0), 0
    for moment in sorted(drawn.sample(range(1, strikes.count), 4)):
        shutil.rmtree(out)
        shutil.copytree(place / "earlier", out)
        try:
            with strikes.at(out, moment, kill=False):
                run_sweep(more, out, executor="inline", save_seconds=0.0)
        except (OSError, SpectraError) as error:
            assert "No space left on device" in str(error)
            told += 1
        assert_whole(out, earlier)
        assert_same_tables(run_sweep(more, out, executor="inline"), expected)
    assert told


@pytest.mark.parametrize("moment", [3, 60])
def test_a_full_disk_under_a_worker_is_told_in_one_sentence(
    moment: int, place: Path, strikes: Strikes, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, full = place / f"worked-{moment}", place / f"full-{moment}"
    shutil.copytree(place / "earlier", out)
    monkeypatch.setenv("SPECTRA_PLUGINS", full_disk.__name__)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    )
    for name, value in ((full_disk.FOLDER, out), (full_disk.MOMENT, moment), (full_disk.FULL, full)):
        monkeypatch.setenv(name, str(value))
    with strikes.at(out, 0, kill=False, full=full):
        result = run(["sweep", "sweep.yaml", "seed=0,1", "-o", str(out), "-q"])
    assert full.exists()
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    assert result.stderr.count("No space left on device") == 1
    assert_whole(out, contents(place / "earlier"))
    full.unlink()
    again = run_sweep({**specification(place), "seeds": [0, 1]}, out, executor="inline")
    assert_same_tables(again, Run.open(place / "undisturbed"))
