"""Every option that names an output is checked by the one rule, and before anything is read."""

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from spectra.cli.destinations import FileDestination, FolderDestination, WritingCommand
from spectra.cli.main import COMMANDS, main
from tests.scanning.checkpoints import save

# The run folder of a sweep is only ever added to; `spectra.runs` looks at it.
ADDED_TO = {("sweep", "out"), ("study", "out"), ("advise", "verify_out")}


def commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(main)
    for name in COMMANDS:
        found = main.get_command(context, name)
        assert found is not None
        yield name, found
        if isinstance(found, click.Group):
            yield from ((f"{name} {inner}", command) for inner, command in found.commands.items())


def test_every_output_is_a_destination_of_a_command_that_checks() -> None:
    checked = 0
    for name, command in commands():
        for param in command.params:
            if param.name in ("out", "html", "parquet", "verify_out") and (name, param.name) not in ADDED_TO:
                assert isinstance(param.type, FileDestination | FolderDestination), f"{name} {param.name}"
                assert isinstance(command, WritingCommand), name
                checked += 1
    assert checked > 15


def adapter(folder: Path, base: Path) -> None:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))


@pytest.mark.parametrize("how", ["--base", "named by the adapter", "above", "itself"])
def test_mitigate_never_replaces_a_base_or_an_adapter(tmp_path: Path, how: str) -> None:
    base = tmp_path / "models" / "base"
    base.mkdir(parents=True)
    # Even one that carries the marker of an adapter written by spectra.
    (base / ".spectra.json").write_text(json.dumps({"what": "adapter", "files": [".spectra.json"]}))
    adapter(tmp_path / "adapter", base)
    out = {"above": base.parent, "itself": tmp_path / "adapter"}.get(how, base)
    more = ["--base", str(base)] if how == "--base" else []
    result = CliRunner().invoke(main, ["mitigate", str(tmp_path / "adapter"), *more, "-o", str(out), "--force"])
    assert result.exit_code == 1
    assert "which the command reads" in result.stderr
    assert (base / ".spectra.json").exists() and (tmp_path / "adapter" / "adapter_config.json").exists()


def test_two_outputs_of_one_command_lie_apart(tmp_path: Path) -> None:
    adapter(tmp_path / "adapter", tmp_path)
    out = str(tmp_path / "out")
    result = CliRunner().invoke(main, ["intruders", str(tmp_path / "adapter"), "--html", out, "--parquet", out])
    assert result.exit_code == 1
    assert "would be written over each other" in result.stderr


@pytest.mark.parametrize("option", ["--html", "--parquet"])
def test_a_file_of_the_user_stays_and_costs_no_scan(tmp_path: Path, option: str) -> None:
    adapter(tmp_path / "adapter", tmp_path / "absent")
    notes = tmp_path / "notes.md"
    notes.write_text("mine")
    result = CliRunner().invoke(main, ["intruders", str(tmp_path / "adapter"), option, str(notes), "--force"])
    assert result.exit_code == 1
    assert "only such a file is replaced" in result.stderr
    assert notes.read_text() == "mine"


@pytest.mark.parametrize("command", ["inspect", "intruders", "scan", "mitigate", "compare", "advise"])
def test_what_was_selected_away_is_an_error_of_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("SPECTRA_CACHE", str(tmp_path / "cache"))
    saved = save(tmp_path)
    more = {"mitigate": ["-o", str(tmp_path / "out")], "compare": [str(saved.adapters[1])]}.get(command, [])
    asked = (
        ("--roles", "q_proj,nope"),
        ("--layers", "0,77"),
        ("--include", "^nope$"),
        ("--exclude", "."),
        ("--roles", ","),
    )
    for words in asked:
        result = CliRunner().invoke(main, [command, str(saved.adapters[0]), *more, *words])
        assert result.exit_code == 1, result.output
        assert result.stderr.startswith("Error: No matrix ") and result.stderr.count("\n") == 1
        assert result.stdout == ""
    assert not (tmp_path / "out").exists()
