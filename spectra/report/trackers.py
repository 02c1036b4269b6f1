"""The figures of a report, and the page itself, in the trackers where people already look."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from spectra.errors import RunError
from spectra.report.cases import cases
from spectra.report.inputs.material import Material
from spectra.storage.destinations import REPORT, require_file

# What sends the figures of some material and the page that was made of it.
Sender = Callable[[Material, Path], None]
# Writers of TensorBoard's files, the one that belongs to it first.
WRITERS = {"tensorboard": "torch.utils.tensorboard", "tensorboardX": "tensorboardX"}


def sender(tracker: str) -> Sender:
    """What sends a report to a tracker; everything that can be checked before is checked.

    Args:
        tracker: "tensorboard:FOLDER" or "wandb:PROJECT".

    Raises:
        RunError: If it is neither, or its package is not installed.
        DestinationError: If the page in FOLDER would replace a file of somebody else.
    """
    name, _, place = tracker.partition(":")
    if name not in SENDERS or not place:
        raise RunError(f"'{tracker}' is no tracker. Give tensorboard:FOLDER or wandb:PROJECT.")
    return SENDERS[name](place)


def _figures(material: Material) -> Iterator[tuple[str, float]]:
    """Every measured figure with its path: what, of which trial, on which held-out task."""
    for case in cases(material):
        for name, value in case.facts.items():
            if value is not None:
                yield f"{name}/{case.name}", float(value)


def _module(*names: str) -> Any:
    found = next((name for name in names if find_spec(name)), None)
    if found is None:
        raise RunError(f"The package {names[0]} is not installed. Install it with `pip install {names[0]}`.")
    return import_module(WRITERS.get(found, found))


def _tensorboard(folder: str) -> Sender:
    module = _module(*WRITERS)
    copy = require_file(Path(folder) / "report.html", REPORT, force=True)

    def send(material: Material, page: Path) -> None:
        with module.SummaryWriter(folder) as writer:
            for name, value in _figures(material):
                writer.add_scalar(name, value)
            writer.add_text("report", f"The whole report is the file {copy.name} in this folder.")
        if not copy.exists() or not copy.samefile(page):
            shutil.copyfile(page, copy)

    return send


def _wandb(project: str) -> Sender:
    wandb = _module("wandb")

    def send(material: Material, page: Path) -> None:
        try:
            run = wandb.init(project=project, job_type="report", name=page.parent.name or page.stem)
            run.summary.update(dict(_figures(material)))
            run.log({"report": wandb.Html(page.read_text(encoding="utf-8"))})
            run.finish()
        except wandb.errors.Error as error:
            reason = str(error).splitlines()[0]
            raise RunError(f"The page '{page}' is written; Weights & Biases refused it: {reason}") from error

    return send


SENDERS: Mapping[str, Callable[[str], Sender]] = {"tensorboard": _tensorboard, "wandb": _wandb}

__all__ = ["SENDERS", "sender"]
