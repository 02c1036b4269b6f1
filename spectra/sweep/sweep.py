"""`run_sweep`: the whole job from a specification to the tables."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from spectra.records.provenance import commit, hardware, versions
from spectra.runs import Run
from spectra.sweep.execution.local import gpus_of_the_largest_launch, run_local
from spectra.sweep.execution.schedule import OnEvent, Schedule
from spectra.sweep.preflight.look import preflight
from spectra.sweep.preflight.registered import require_known_to_workers
from spectra.sweep.spec.plan import PlannedTrial, plan, share
from spectra.sweep.spec.read import read_specification
from spectra.sweep.spec.specification import SHARED, Specification
from spectra.sweep.trial.inputs import agreed
from spectra.sweep.trial.tables import write_tables

Executor = Literal["local", "inline", "ray"]


def run_sweep(
    specification: Specification | Mapping[str, Any] | Path | str = "default",
    out: Path | str = "runs/default",
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
    command: str = "",
) -> Run:
    """Train, scan and measure every trial of a sweep that is not finished yet, and write the tables.

    A finished trial is never run again and an interrupted one goes on from its last checkpoint, so calling this again
    with the same arguments finishes what is left. Several processes may work on one folder at the same time.

    Args:
        specification: What to do: a `Specification`, a mapping, the path of a YAML file or the name of a preset.
        out: The run folder; made if absent.
        axes: Axes that are put into the specification, such as "rank=1,8,64".
        shard: (i, n): do the i-th of n shares of the trials; the shares together are the sweep.
        executor: "local" isolates the work in processes; "inline" does it in this one; "ray" spreads it over a cluster.
        workers: Worker processes; None starts one per GPU, or one. With "ray": at most so many trials at once.
        ray: With "ray": "auto" for the cluster that this machine is part of, or HOST:PORT of its head.
        cpus_per_trial: With "ray": CPUs, and threads, of a trial.
        gpus_per_trial: GPUs of a trial; None means one where there are GPUs, or one per process of its launch.
        save_seconds: Time between training checkpoints.
        on_event: Called with every event, from another thread unless the executor is "inline".
        command: The command line, for the record.

    Returns:
        The run folder.

    Raises:
        SpecificationError: If the specification is not valid, or something in it is bound to fail.
        RunError: If the shard is empty, `out` holds another sweep, or the base model cannot be measured.
        ClusterError: If there is no Ray cluster to join.
    """
    specification = read_specification(specification, axes)
    gpus_per_trial = gpus_per_trial or gpus_of_the_largest_launch(specification)
    everything = plan(specification)
    trials = share(everything, *shard)
    with ExitStack() as cluster:
        if executor == "ray":
            from spectra.sweep.execution.on_ray import joined_with_room

            # Before the run folder is made: without a cluster nothing is left behind.
            cluster.enter_context(joined_with_room(ray, cpus_per_trial, gpus_per_trial))
        if executor != "inline":
            require_known_to_workers(specification)
        inputs = preflight(specification, everything, out, elsewhere=executor == "ray").contents()
        run = Run.create(
            out,
            _record(specification, everything, command),
            same=SHARED,
            inputs=lambda there: inputs if there is None else agreed(str(out), there, inputs),
        )
        for trial in trials:
            run.trial(trial.id).forget_failure()
        schedule = Schedule(run, trials, specification.keep)
        if executor == "inline":
            # Imported only here: with workers, this process needs neither transformers nor peft.
            from spectra.sweep.execution.inline import run_inline
            from spectra.sweep.trial.runner import Runner

            run_inline(schedule, Runner(run, specification, save_seconds=save_seconds), on_event)
        elif executor == "ray":
            from spectra.sweep.execution.on_ray import run_on_ray

            run_on_ray(
                schedule,
                run,
                specification,
                on_event,
                address=ray,
                cpus=cpus_per_trial,
                gpus=gpus_per_trial,
                workers=workers,
                save_seconds=save_seconds,
            )
        else:
            run_local(
                schedule,
                run,
                specification,
                on_event,
                workers=workers,
                gpus=gpus_per_trial,
                save_seconds=save_seconds,
            )
    write_tables(run)
    return run


def _record(specification: Specification, trials: Sequence[PlannedTrial], command: str) -> dict[str, Any]:
    """The content of sweep.json."""
    return {
        "specification": specification.model_dump(mode="json"),
        "trials": [trial.described() for trial in trials],
        "command": command,
        "versions": dict(versions()),
        "hardware": dict(hardware()),
        "commit": commit(),
    }
