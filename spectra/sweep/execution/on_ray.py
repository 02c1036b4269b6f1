"""The executor for a Ray cluster: one Ray task per job, on whichever node has room for it.

The run folder is the only state, so it lies on a file system that all nodes share. A worker that dies
counts as a failed attempt of its trial, as on one machine; a job that was lost with its node is dispatched again.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spectra.cluster import Places, joined, passed_on, places
from spectra.errors import ClusterError
from spectra.runs import Run
from spectra.sweep.execution.logs import log_of
from spectra.sweep.execution.schedule import Job, OnEvent, Schedule
from spectra.sweep.execution.supervisor import Supervisor, work_all
from spectra.sweep.spec.specification import Specification

MOST_AT_ONCE = 64  # jobs handed to Ray at the same time; what has no room yet waits there
FAREWELL_SECONDS = 60.0  # time for a stopped trial to write its checkpoint


@contextmanager
def joined_with_room(address: str, cpus: float, gpus: float | None) -> Iterator[tuple[Any, Places]]:
    """Join a cluster that holds at least one job; yields the module ray and the places.

    Raises:
        ClusterError: If Ray is missing, no cluster answers, or no node is large enough.
    """
    with joined(address) as ray:
        yield ray, places(ray, cpus, gpus)


def run_on_ray(
    schedule: Schedule,
    run: Run,
    specification: Specification,
    on_event: OnEvent,
    *,
    address: str,
    cpus: float = 1.0,
    gpus: float | None = None,
    workers: int | None = None,
    save_seconds: float = 120.0,
) -> None:
    """Do all jobs as Ray tasks.

    Args:
        schedule: The jobs.
        run: The run folder.
        specification: The sweep.
        on_event: Called from the threads that listen to the tasks.
        address: "auto", or HOST:PORT of the cluster's head.
        cpus: CPUs that a job takes; also its number of threads.
        gpus: GPUs that a job takes; None means one where the cluster has GPUs.
        workers: At most so many jobs at once; None leaves it to the cluster.
        save_seconds: Time between training checkpoints.

    Raises:
        ClusterError: If Ray is missing, no cluster answers, or no node is large enough.
        RunError: If the base model cannot be measured.
        KeyboardInterrupt: After a Ctrl-C, when the workers have stopped.
    """
    with joined_with_room(address, cpus, gpus) as (ray, room):
        from spectra.sweep.execution.ray_task import do_job

        task = ray.remote(do_job).options(
            num_cpus=room.cpus,
            num_gpus=room.gpus,
            max_retries=0,  # the schedule counts attempts, and remembers them in the run folder
            num_returns="streaming",
            runtime_env=passed_on(),
        )
        given = (
            str(Path.cwd()),
            str(run.path.resolve()),
            specification.model_dump_json(exclude_unset=True),
            save_seconds,
        )
        supervisors = [
            _TaskSupervisor(schedule, run, on_event, ray=ray, task=task, given=given)
            for _ in range(min(workers or MOST_AT_ONCE, max(schedule.size, 1)))
        ]
        work_all(schedule, supervisors)


@dataclass
class _TaskSupervisor(Supervisor):
    """Has one Ray task after another done, and listens to it."""

    ray: Any = None
    task: Any = None
    given: tuple[Any, ...] = ()
    _answers: Any = None  # of the task that runs now

    def dispatch(self, job: Job) -> None:
        errors = self.ray.exceptions
        self._answers = self.task.remote(*self.given, job.kind, job.trial.kind.to_dict())
        try:
            if self.stopping:
                self.stop()
            for answer in self._answers:
                if self.heard(job, self.ray.get(answer)):
                    return
            self._stopped(job)
        except errors.TaskCancelledError:
            self._stopped(job)
        except (errors.NodeDiedError, errors.ObjectLostError):
            if self.stopping or not self.schedule.lost(job):
                self.died(job, "The node under it died, again and again. Run the sweep again.")
        except errors.WorkerCrashedError:
            self.died(job, "The worker died on its node, perhaps for lack of memory. Run the sweep again.")
        except errors.OutOfMemoryError:
            self.died(job, "Ray ended the worker for lack of memory on its node. Ask for more --cpus-per-trial.")
        except errors.RayTaskError as error:
            cause = str(error.cause or error).strip().splitlines()[-1]
            self.died(job, f"The worker ended with {cause}. Read '{log_of(self.run, job)}'.")
        except errors.RuntimeEnvSetupError as error:
            raise ClusterError(f"Ray could not start a worker ({error}). Mend that first.") from error
        finally:
            self._answers = None

    def stop(self) -> None:
        """A cancelled task saves a checkpoint before it ends."""
        if (answers := self._answers) is not None:
            self.ray.cancel(answers)

    def kill(self) -> None:
        if (answers := self._answers) is not None:
            self.ray.cancel(answers, force=True)

    def _stopped(self, job: Job) -> None:
        """The stream ends with the cancellation, the task a little later: its lock tells when."""
        deadline = time.monotonic() + FAREWELL_SECONDS
        while self.run.trial(job.trial.id).state == "running" and time.monotonic() < deadline:
            time.sleep(0.1)
        self.schedule.put_back(job)
