"""`spectra doctor`, and what the command group answers to a mistyped command."""

import json
import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from spectra.cli.main import main
from spectra.environment import OPTIONAL

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("SPECTRA_CACHE", str(folder))
    return folder


def diagnosed() -> dict:
    result = CliRunner().invoke(main, ["doctor", "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_versions_devices_and_threads_are_those_of_this_process() -> None:
    found = diagnosed()
    assert found["versions"]["torch"] == metadata.version("torch")
    assert found["devices"][-1]["device"] == "cpu"
    cuda = [device for device in found["devices"] if device["device"].startswith("cuda")]
    assert len(cuda) == torch.cuda.device_count()
    assert {"library": "torch", "threads": torch.get_num_threads()} in found["threads"]


def test_the_cache_is_measured_by_its_files(cache: Path) -> None:
    assert diagnosed()["cache_entries"] == []
    (cache / "assets" / "texts-1.0").mkdir(parents=True)
    (cache / "assets" / "texts-1.0" / "texts.jsonl").write_bytes(b"x" * 1500)
    (cache / "assets" / "texts-1.0.lock").touch()
    (cache / "factors").mkdir()
    (cache / "factors" / "one.safetensors").write_bytes(b"x" * 40)
    (cache / "factors" / "two.safetensors").write_bytes(b"x" * 60)
    found = diagnosed()
    assert found["cache"] == str(cache)
    assert found["cache_entries"] == [
        {"name": "assets", "bytes": 1500, "items": 1},
        {"name": "factors", "bytes": 100, "items": 2},
    ]


@pytest.mark.parametrize("offline", [True, False])
def test_the_state_of_the_hub_client_is_told(offline: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example")
    found = diagnosed()
    assert found["hub_offline"] is offline
    assert found["hub"]["HF_ENDPOINT"] == "https://mirror.example"


def test_absent_optional_packages_are_null_and_come_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spectra.environment.package_version", lambda name: "1.2" if name == "gguf" else None)
    assert diagnosed()["optional"] == {
        "gguf": "1.2",
        **dict.fromkeys(("ray", "lm-eval", "powerlaw", "bitsandbytes")),
    }
    table = CliRunner().invoke(main, ["doctor"]).stdout
    table = " ".join(table.split())
    assert "pip install 'lora-spectra[ray]'" in table and "[gguf]" not in table
    extras = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for package, (extra, _) in OPTIONAL.items():
        assert any(re.match(rf"{package}\b", needed) for needed in extras[extra]), package


def test_the_tables_fit_80_columns_and_take_no_name_for_markup(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "[red]entry").mkdir(parents=True)
    monkeypatch.setenv("HF_HOME", "/a/very/long/path" * 9)
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "[red]entry" in result.stdout
    assert all(title in result.stdout for title in ("Versions", "Devices", "Threads", "Cache", "Hub", "Optional"))


@pytest.mark.parametrize(("typed", "meant"), [("intruder", "intruders"), ("reprot", "report"), ("swep", "sweep")])
def test_a_mistyped_command_is_answered_with_the_nearest_one(typed: str, meant: str) -> None:
    result = CliRunner().invoke(main, [typed, "x"])
    assert result.exit_code == 2 and result.stdout == ""
    assert f"There is no command '{typed}'. Did you mean '{meant}'?" in result.stderr


def test_a_command_unlike_any_other_is_answered_without_a_guess() -> None:
    result = CliRunner().invoke(main, ["qqqq"])
    assert result.exit_code == 2 and "Did you mean" not in result.stderr


def test_an_unknown_option_of_the_group_is_still_a_usage_error() -> None:
    result = CliRunner().invoke(main, ["--no-such-option"])
    assert result.exit_code == 2 and "--no-such-option" in result.stderr
