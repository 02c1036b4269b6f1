"""Figures in trackers, with the page attached."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import spectra
from spectra.errors import RunError
from spectra.report import cases, material_of
from spectra.runs import Run
from tests.report.fabricated import SWEEP, sweep_tables, write_run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.open(write_run(tmp_path / "run", sweep_tables(SWEEP)))


def figures(run: Run) -> dict[str, float]:
    return {
        f"{name}/{case.name}": value
        for case in cases(material_of([run.path]))
        for name, value in case.facts.items()
        if value is not None
    }


def test_tensorboard_gets_every_figure_and_the_page(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: dict[str, float] = {}

    class SummaryWriter:
        def __init__(self, folder: str) -> None:
            assert Path(folder).is_dir() or not Path(folder).mkdir()

        def __enter__(self) -> "SummaryWriter":
            return self

        def __exit__(self, *_: object) -> None:
            written["closed"] = 1.0

        def add_scalar(self, name: str, value: float) -> None:
            written[name] = value

        def add_text(self, name: str, text: str) -> None:
            assert name == "report" and "report.html" in text

    monkeypatch.setattr("spectra.report.trackers.find_spec", lambda name: name == "tensorboardX")
    monkeypatch.setitem(sys.modules, "tensorboardX", SimpleNamespace(SummaryWriter=SummaryWriter))
    page = spectra.write_report(run.path, trackers=[f"tensorboard:{tmp_path / 'logs'}"])
    assert (tmp_path / "logs" / "report.html").read_bytes() == page.read_bytes()
    expected = figures(run)
    assert expected and written == {**expected, "closed": 1.0}


def test_wandb_gets_every_figure_and_the_page(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    summary: dict[str, Any] = {}
    logged: dict[str, Any] = {}
    wandb = ModuleType("wandb")
    started = SimpleNamespace(summary=summary, log=logged.update, url=None, dir="offline-run", finish=lambda: None)
    wandb.init = lambda **settings: started if settings["project"] == "mine" else None  # type: ignore[attr-defined]
    wandb.Html = lambda text: text  # type: ignore[attr-defined]
    wandb.errors = SimpleNamespace(Error=ConnectionError)  # type: ignore[attr-defined]
    monkeypatch.setattr("spectra.report.trackers.find_spec", lambda name: name == "wandb")
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    page = spectra.write_report(run.path, trackers=["wandb:mine"])
    assert summary == figures(run) and logged == {"report": page.read_text(encoding="utf-8")}


@pytest.mark.parametrize("tracker", ["mlflow:x", "tensorboard", "wandb:"])
def test_another_tracker_is_refused(run: Run, tracker: str) -> None:
    with pytest.raises(RunError, match=r"is no tracker\. Give tensorboard:FOLDER or wandb:PROJECT\."):
        spectra.write_report(run.path, trackers=[tracker])


def test_a_tracker_that_is_not_installed_is_named(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spectra.report.trackers.find_spec", lambda name: None)
    for tracker, package in ((f"tensorboard:{tmp_path}", "tensorboard"), ("wandb:mine", "wandb")):
        with pytest.raises(RunError, match=f"pip install {package}"):
            spectra.write_report(run.path, trackers=[tracker])
    assert not run.report.exists()
