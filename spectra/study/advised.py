"""The advised adapter of a study: what to train is read from the finished sweep once, then trained with its seeds."""

from pathlib import Path
from typing import Any

from spectra.advice import advise
from spectra.advice.verify import verifying
from spectra.errors import SpectraError
from spectra.runs import Run
from spectra.storage.atomic import read_json, write_json
from spectra.study.answers.saving import Advised
from spectra.study.registration import ADVICE
from spectra.study.specification import StudySpecification
from spectra.sweep import Specification, run_sweep
from spectra.sweep.spec.plan import plan


def advised_folder(run: Run) -> Path:
    """The run folder of the advised trials."""
    return run.path / "advised"


def train_advised(run: Run, study: StudySpecification, **options: Any) -> None:
    """Read the advice from the finished sweep, and train it; the advice is written first and not asked for again.

    Args:
        run: The run folder.
        study: The study.
        **options: Of `run_sweep`: executor, workers, ...
    """
    path = _advice_path(run)
    if not path.is_file():
        write_json(path, _advice(run, study))
    advice = read_json(path)
    if not advice["reason"]:
        specification = Specification.model_validate(advice["specification"])
        run_sweep(specification, advised_folder(run), **options)


def advised_trials(run: Run) -> tuple[Advised | None, str]:
    """The advised trials that are there, and otherwise why there are none."""
    path = _advice_path(run)
    if not path.is_file():
        return None, "the advice is read once the sweep is complete"
    if reason := read_json(path)["reason"]:
        return None, str(reason)
    if not (advised_folder(run) / "tables" / "trials.parquet").is_file():
        return None, "the advised adapter is not trained yet"
    there = Run.open(advised_folder(run))
    return Advised(there.table("trials"), there.table("forgetting")), ""


def missing_advice(run: Run) -> list[str]:
    """What is left to do of the advised adapter."""
    path = _advice_path(run)
    if not path.is_file():
        return ["the advised adapter"]
    advice = read_json(path)
    if advice["reason"]:
        return []
    there = Run(advised_folder(run))
    trials = plan(Specification.model_validate(advice["specification"]))
    left = [trial for trial in trials if not there.trial(trial.id).is_over]
    return [f"advised adapter, seed {trial.seed}" for trial in left]


def _advice_path(run: Run) -> Path:
    return run.path / "study" / ADVICE


def _advice(run: Run, study: StudySpecification) -> dict[str, Any]:
    """What to train; or the reason why nothing can be advised."""
    try:
        advice = advise(run.path, keep=study.study.keep_energy, k=study.k, epsilon=study.epsilon)
        specification = verifying(advice, run)
    except SpectraError as error:
        return {"reason": str(error), "specification": None}
    return {
        "reason": "",
        "specification": specification.model_dump(mode="json", exclude_unset=True),
        "parameters": advice.parameters,
        "energy_kept": advice.energy_kept,
    }
