"""The files of a plan: a configuration for peft, a sweep that tests it, and all that is known."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from spectra.errors import DestinationError
from spectra.storage.atomic import write_json, write_text
from spectra.storage.destinations import require_continued
from spectra.storage.json_file import read_object
from spectra.storage.keyed import digest

if TYPE_CHECKING:
    from spectra.advice.planning.records import TrainingPlan

ADAPTER, SWEEP, PLAN = "adapter_config.json", "sweep.yaml", "plan.json"


def require_place(out: Path, question: Mapping[str, Any], *, force: bool) -> Path:
    """The folder of a plan: absent, empty, or begun with the same question.

    Args:
        out: As the user named it.
        question: Everything that decides the plan.
        force: Whether the plan of another question may be replaced.

    Raises:
        DestinationError: If it holds anything else.
    """
    target = require_continued(out, "plan")
    there = target / PLAN
    if there.is_file() and not force:
        known = read_object(there, error=DestinationError, remedy="Choose another folder.").get("question")
        if known != digest(question):
            raise DestinationError(
                f"'{out}' holds the plan of another question. Add --force to replace it, or choose another folder."
            )
    return target


def write_plan(planned: "TrainingPlan", out: Path, question: Mapping[str, Any]) -> None:
    """Write adapter_config.json, sweep.yaml and, last, plan.json."""
    write_json(out / ADAPTER, dict(planned.adapter))
    head = f"# Tests the plan beside this file:  spectra sweep {out / SWEEP} -o {out / 'test'}\n"
    write_text(out / SWEEP, head + yaml.safe_dump(dict(planned.specification), sort_keys=False, allow_unicode=True))
    write_json(out / PLAN, {**planned.to_dict(), "question": digest(question)})
