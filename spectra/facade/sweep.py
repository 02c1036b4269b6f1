"""`spectra.run_sweep` and `spectra.plan_sweep`: trials of paired methods, what they cost and what became of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from spectra.assets import fetching_nothing
from spectra.records.listing import Listing
from spectra.runs import Run, tidy
from spectra.sweep import PlannedTrial, Specification, plan, read_specification
from spectra.sweep import run_sweep as run
from spectra.sweep.execution.schedule import OnEvent
from spectra.sweep.preflight.downloads import downloads
from spectra.sweep.preflight.look import preflight
from spectra.sweep.spec.plan import share
from spectra.sweep.sweep import Executor

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class SweepPlan(Listing):
    """The trials of a sweep and what they are expected to cost.

    Attributes:
        entries: One per trial: its identity, label, resolved settings, trained numbers, bytes and seconds; None where
            one cannot be known.
        trials: The trials.
        is_trained: False where all are checkpoints that exist already.
        keep: Which weights stay on disk.
        downloads: What would have to be fetched first, in words.
        account: What becomes of every row of every task: the table row_account, without the trial.
    """

    caption: ClassVar[str] = "Planned trials"

    trials: tuple[PlannedTrial, ...]
    is_trained: bool
    keep: str
    downloads: tuple[str, ...]
    account: "pd.DataFrame"


def plan_sweep(
    specification: Specification | Mapping[str, Any] | Path | str = "default",
    out: Path | str = "runs/default",
    *,
    axes: Sequence[str] = (),
) -> SweepPlan:
    """List the trials of a sweep and what they are expected to cost; nothing is trained, fetched or written.

    Args:
        specification: What to do: a `Specification`, a mapping, the path of a YAML file or the name of a preset.
        out: The run folder that is meant.
        axes: Axes that are put into the specification, such as "rank=1,8,64".

    Raises:
        SpecificationError: If the specification is not valid, or something in it is bound to fail.
        RunError: If `out` belongs to another sweep.

    Example:
        >>> plan = spectra.plan_sweep(specification, folder / "planned", axes=["rank=1,2"])
        >>> plan.to_dataframe()[["label", "seconds"]].shape
        (2, 2)
    """
    resolved = read_specification(specification, axes)
    with fetching_nothing():
        looked = preflight(resolved, plan(resolved), out, planned=True)
    entries = [
        {
            "trial": one.trial.id,
            **one.trial.kind.to_dict(),
            "label": one.trial.label,
            "trainable_parameters": one.trainable_parameters,
            "optimiser_bytes": one.optimiser_bytes,
            "disk_bytes": one.disk_bytes,
            "seconds": one.seconds,
        }
        for one in looked.estimates
    ]
    absent = tuple(str(one) for one in downloads(resolved))
    trials = tuple(one.trial for one in looked.estimates)
    return SweepPlan(
        entries, trials, bool(resolved.methods), resolved.keep, absent, tidy("row_account", looked.account)
    )


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
    report: bool = True,
    on_event: OnEvent = lambda event: None,
    command: str = "",
) -> Run:
    """Train, scan and measure every trial of a sweep that is not finished yet; write the tables and the report.

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
        report: Write the HTML report of the folder as well.
        on_event: Called with every event, from another thread unless the executor is "inline".
        command: The command line, for the record.

    Returns:
        The run folder with its tables: `run.to_dataframe("trials")`, `run.table("forgetting")`, ...

    Raises:
        SpecificationError: If the specification is not valid, or something in it is bound to fail.
        RunError: If `out` holds another sweep, or the base model cannot be measured.
        ClusterError: If there is no Ray cluster to join.

    Example:
        >>> swept = spectra.run_sweep(specification, run, executor="inline", report=False)
        >>> swept.to_dataframe()[["label", "status"]].values.tolist()
        [['LoRA r=2 α=4', 'done']]
    """
    finished = run(
        specification,
        out,
        axes=axes,
        shard=shard,
        executor=executor,
        workers=workers,
        ray=ray,
        cpus_per_trial=cpus_per_trial,
        gpus_per_trial=gpus_per_trial,
        save_seconds=save_seconds,
        on_event=on_event,
        command=command,
    )
    if report:
        from spectra.report import write_report  # a plan draws nothing

        write_report(finished.path)
    return finished


def planned_trials(specification: Specification, shard: tuple[int, int] = (1, 1)) -> Sequence[PlannedTrial]:
    """The trials of a share of a sweep."""
    return share(plan(specification), *shard)
