"""`run_study`: a sweep, interventions on its trials, and the answers to questions that were fixed before."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectra.data import load_task
from spectra.errors import RunError, SpecificationError
from spectra.records.provenance import commit, versions
from spectra.records.verdicts import html_table
from spectra.report import write_report
from spectra.report.study_page import write_study_report
from spectra.runs import Run
from spectra.storage.atomic import write_json
from spectra.storage.tables import write_csv, write_parquet
from spectra.study.advised import advised_trials, missing_advice, train_advised
from spectra.study.answers.all import Answers, answers_of
from spectra.study.answers.intruders import headline
from spectra.study.bar import Bar, bar_of
from spectra.study.execution import Means, treat_all
from spectra.study.intervention_job import is_settled
from spectra.study.progress import OnProgress
from spectra.study.registration import register, registered
from spectra.study.specification import StudySpecification
from spectra.study.tables import StudyTables, collect
from spectra.sweep import run_sweep
from spectra.sweep.execution.schedule import OnEvent
from spectra.sweep.preflight.look import preflight
from spectra.sweep.spec.plan import plan, share
from spectra.sweep.spec.read import presets, read_as
from spectra.sweep.sweep import Executor

if TYPE_CHECKING:
    import pandas as pd

PACKAGE = "spectra.study"


@dataclass(frozen=True, eq=False)
class Study:
    """A study as far as it has run.

    Attributes:
        run: Its run folder.
        report: Its page.
        answers: The answers, the paper's signs and the tables.
        missing: What has not been done yet; empty once the study is complete.
        record: The content of verdicts.json.
    """

    run: Run
    report: Path
    answers: Answers
    missing: tuple[str, ...]
    record: Mapping[str, Any]

    @property
    def verdicts(self) -> dict[str, str]:
        """The verdict on each question, by its letter."""
        return {one.question: one.verdict for one in self.answers.answers}

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of `spectra study`."""
        return {**self.record, "run": str(self.run.path), "report": str(self.report)}

    def to_dataframe(self) -> "pd.DataFrame":
        """One row per question, with its verdict."""
        import pandas as pd

        return pd.DataFrame([vars(one) for one in self.answers.answers])[["question", "text", "verdict", "sentence"]]

    def _repr_html_(self) -> str:
        """The questions and their verdicts, for notebooks."""
        rows = [(one.question, one.text, one.verdict, one.sentence) for one in self.answers.answers]
        headings = ("", "question", "verdict", "why")
        return html_table(str(self.run.path), headings, rows, [f"Missing: {part}" for part in self.missing[:5]])


def study_presets() -> list[str]:
    """Names of the studies that come with the package."""
    return presets(PACKAGE)


def read_study(
    source: StudySpecification | Mapping[str, Any] | Path | str, axes: Sequence[str] = ()
) -> StudySpecification:
    """A validated study: a specification, a mapping, the path of a YAML file, or the name of a preset.

    Raises:
        SpecificationError: If a field is unknown, missing or impossible.
    """
    return read_as(StudySpecification, source, axes, PACKAGE)


def run_study(
    specification: StudySpecification | Mapping[str, Any] | Path | str,
    out: Path | str,
    *,
    axes: Sequence[str] = (),
    shard: tuple[int, int] = (1, 1),
    executor: Executor = "local",
    workers: int | None = None,
    ray: str = "auto",
    cpus_per_trial: float = 1.0,
    gpus_per_trial: float | None = None,
    save_seconds: float = 120.0,
    on_event: OnEvent = lambda event: None,
    on_progress: OnProgress = lambda progress: None,
    command: str = "",
) -> Study:
    """Run what is left of a study, and answer its questions from what is there.

    The questions are written into the run folder before anything runs. Then the sweep, the interventions on its chosen
    trials, and the advised adapter; each result is stored as it ends, and the same call goes on where it was stopped.

    Args:
        specification: A `StudySpecification`, a mapping with its fields, the path of a YAML file or a preset.
        out: The run folder; made if absent.
        axes: Axes that are put into the specification, such as "seed=0..4".
        shard: (i, n): do the i-th of n shares of the trials; the shares together are the study.
        executor: "local" isolates the work in processes; "inline" does it in this one; "ray" spreads it over a cluster.
        workers: Worker processes; None starts one per GPU, or one.
        ray: With "ray": "auto" for the cluster that this machine is part of, or HOST:PORT of its head.
        cpus_per_trial: With "ray": CPUs, and threads, of a trial.
        gpus_per_trial: GPUs of a trial; None means one where there are GPUs, or one per process of its launch.
        save_seconds: Time between training checkpoints.
        on_event: Called with every event of a sweep.
        on_progress: Called with the news of every intervention.
        command: The command line, for the record.

    Returns:
        The study, complete or not: `missing` says what is left, such as other shards.

    Raises:
        SpecificationError: If the specification is not valid, or something in it is bound to fail.
        RunError: If the folder was begun with other questions.
        ClusterError: If there is no Ray cluster to join.

    Example:
        >>> study = spectra.run_study(questions, studied, executor="inline")
        >>> study.to_dataframe().columns.tolist()
        ['question', 'text', 'verdict', 'sentence']
    """
    study = read_study(specification, axes)
    sweep, folder = study.sweep, Path(out)
    everything = plan(sweep)
    part, of = shard
    if not 1 <= part <= of:
        raise RunError(f"Shard {part}/{of} does not exist. Give i/n with i from 1 to n.")
    means = Means(executor, workers, ray, cpus_per_trial, gpus_per_trial)
    with ExitStack() as cluster:
        if executor == "ray":
            from spectra.sweep.execution.on_ray import joined_with_room

            # Before the run folder is made: without a cluster nothing is left behind.
            cluster.enter_context(joined_with_room(ray, cpus_per_trial, gpus_per_trial))
        contents = preflight(sweep, everything, folder, elsewhere=executor == "ray").contents()
        _require_primary(study, [one["name"] for one in contents["heldout"]])
        register(folder, study, command)
        options: dict[str, Any] = {
            "executor": executor,
            "workers": workers,
            "ray": ray,
            "cpus_per_trial": cpus_per_trial,
            "gpus_per_trial": gpus_per_trial,
            "save_seconds": save_seconds,
            "on_event": on_event,
        }
        run = run_sweep(sweep, folder, shard=shard, command=command, **options)
        bar = bar_of(run, study, load_task(study.sequence[0]))
        mine = {trial.id for trial in share(everything, part, of)}
        if "d" in study.study.questions:
            treat_all(run, study, [one for one in _to_treat(run, study, bar) if one in mine], means, on_progress)
        if "e" in study.study.questions and not _untrained(run, study):
            train_advised(run, study, **options)
    return answer_study(folder, bar)


def answer_study(folder: Path | str, bar: Bar | None = None) -> Study:
    """Answer the questions of a study from what its folder holds, and write tables, verdicts and pages.

    Raises:
        RunError: If the folder is no study.
    """
    run = Run.open(folder)
    registration = registered(run.path)
    study = StudySpecification.model_validate(registration["specification"])
    bar = bar or bar_of(run, study, load_task(study.sequence[0]))
    with run.lock():
        tables = collect(run, bar, study.study.primary)
        advised, reason = advised_trials(run) if "e" in study.study.questions else (None, "")
        answers = answers_of(tables, study.study, advised, without_advice=reason)
        missing = _missing(run, study, bar)
        for name, table in answers.tables.items():
            write_parquet(run.path / "study" / "tables" / f"{name}.parquet", table)
            write_csv(run.path / "study" / "tables" / f"{name}.csv", table)
        record = {
            "format": 1,
            "title": study.title,
            "sha256": registration["sha256"],
            "complete": not missing,
            "missing": list(missing),
            "level": study.study.level,
            "each_level": study.study.each_level,
            "primary": tables.primary,
            "bar": bar.to_dict(),
            "counts": list(headline(tables.chosen[tables.chosen["count"].notna()])),
            "excluded": _excluded(tables),
            **answers.to_dict(),
            "versions": dict(versions()),
            "commit": commit(),
        }
        write_json(run.path / "study" / "verdicts.json", record)
    write_report(run.path)
    return Study(run, write_study_report(run.path), answers, missing, record)


def _require_primary(study: StudySpecification, heldouts: Sequence[str]) -> None:
    """The held-out task that decides is among those that are measured."""
    primary = study.study.primary
    if primary is not None and primary not in heldouts:
        raise SpecificationError(
            f"study.primary is '{primary}', and the held-out tasks are {', '.join(heldouts)}. Name one of them."
        )


def _to_treat(run: Run, study: StudySpecification, bar: Bar) -> list[str]:
    """The trials that interventions are made on, in the order of the table."""
    trials = collect(run, bar, study.study.primary)
    rows = trials.used if study.study.interventions.trials == "all" else trials.chosen
    return [str(trial) for trial in rows["trial"]]


def _untrained(run: Run, study: StudySpecification) -> list[str]:
    """Trials of the sweep that are still to be trained."""
    return [
        f"{trial.label}, learning rate {trial.learning_rate:g}, seed {trial.seed}"
        for trial in plan(study.sweep)
        if not run.trial(trial.id).is_over
    ]


def _missing(run: Run, study: StudySpecification, bar: Bar) -> tuple[str, ...]:
    """What the study still has to do."""
    missing = [f"trial {one}" for one in _untrained(run, study)]
    if "d" in study.study.questions:
        missing += [f"intervention on {one}" for one in _to_treat(run, study, bar) if not is_settled(run, one)]
    if "e" in study.study.questions:
        missing += missing_advice(run)
    return tuple(missing)


def _excluded(tables: StudyTables) -> list[str]:
    """The trials that take no part, each with its reason."""
    left = tables.trials[~tables.trials["used"].astype(bool)]
    return [
        f"{row['label']}, learning rate {row['learning_rate']:g}, seed {row['seed']}: {row['excluded']}"
        for row in left.to_dict("records")
    ]
