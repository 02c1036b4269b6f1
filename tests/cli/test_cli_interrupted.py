"""Ctrl-C during a scan: what is done is printed, and the same command goes on from there."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from spectra.cli.main import main
from tests.scanning.checkpoints import Checkpoints, save


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    return save(tmp_path_factory.mktemp("checkpoints"))


def run(command: str, saved: Checkpoints, *options: str) -> Result:
    return CliRunner().invoke(main, [command, str(saved.adapters[1]), "-k", "4", "--json", *options])


@pytest.mark.parametrize("command", ["intruders", "scan"])
def test_an_interrupted_command_prints_what_is_done_and_goes_on_when_it_is_given_again(
    command: str, saved: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPECTRA_CACHE", str(tmp_path))
    seen: list[int] = []

    @contextmanager
    def stopping(label: str, *, quiet: bool) -> Iterator[Any]:
        def show(done: int, total: int, name: str) -> None:
            seen.append(done)
            if done == 3 and len(seen) == 3:
                raise KeyboardInterrupt

        yield show

    monkeypatch.setattr(f"spectra.cli.{command}.parts_progress", stopping)
    cut = run(command, saved)
    assert cut.exit_code == 130
    assert len(json.loads(cut.stdout)["matrices"]) == 3
    assert "Interrupted after 3 matrices. Run the same command to continue.\n" in cut.stderr
    assert "Warning: Interrupted: 3 of 14 matrices are scanned." in cut.stderr
    whole = run(command, saved)
    assert whole.exit_code == 0
    assert seen[3:] == [3, *range(4, 15)]  # the first three came from the journal
    [first, *_] = json.loads(whole.stdout)["matrices"]
    assert first == json.loads(cut.stdout)["matrices"][0]  # its time included: it was not scanned again


def test_without_a_cache_nothing_is_promised(
    saved: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPECTRA_CACHE", str(tmp_path / "cache"))

    @contextmanager
    def stopping(label: str, *, quiet: bool) -> Iterator[Any]:
        def show(done: int, total: int, name: str) -> None:
            raise KeyboardInterrupt

        yield show

    monkeypatch.setattr("spectra.cli.intruders.parts_progress", stopping)
    cut = run("intruders", saved, "--no-cache")
    assert cut.exit_code == 130 and "Interrupted after 1 matrices.\n" in cut.stderr
    assert not (tmp_path / "cache").exists()
