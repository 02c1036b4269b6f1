"""The executor without processes: jobs one after another in the caller's own. For notebooks and debuggers."""

from spectra.errors import SpectraError
from spectra.sweep.execution.logs import log_of, sentence, told_traceback
from spectra.sweep.execution.schedule import Event, Job, OnEvent, Outcome, Schedule
from spectra.sweep.trial.runner import Runner, Stage


def do(runner: Runner, job: Job, on_event: OnEvent) -> Outcome:
    """Do one job, whatever its kind."""

    def on_stage(stage: Stage, step: int, steps: int, validation: tuple[str, float] | None = None, /) -> None:
        on_event(Event("step" if step else "started", job, stage, step, steps, validation))

    match job.kind:
        case "base":
            on_event(Event("started", job, "measuring the base model"))
            runner.measure_base()
            return "done"
        case "trial":
            return runner.do_trial(job.trial, on_stage)
        case "test":
            return runner.do_test(job.trial, on_stage)


def run_inline(schedule: Schedule, runner: Runner, on_event: OnEvent) -> None:
    """Do all jobs in this process.

    Raises:
        SpectraError: If the base model cannot be measured; a failed trial is recorded instead.
    """
    while job := schedule.next_job():
        try:
            outcome = do(runner, job, on_event)
        except Exception as error:
            if job.kind == "base":
                raise
            log = log_of(runner.run, job)
            why = sentence(error, log)
            if not isinstance(error, SpectraError):
                log.parent.mkdir(parents=True, exist_ok=True)
                with log.open("a", encoding="utf-8") as stream:
                    stream.write(told_traceback())
            schedule.failed(job, why, again=False)
            on_event(Event("failed", job, message=why))
            continue
        schedule.ended(job, outcome, on_event)
