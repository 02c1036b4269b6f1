"""A training that several processes share: `accelerate launch` starts them, this module listens to them.

Everything they say goes through a folder of this machine that lives as long as the call: the order (order.json), the
optimiser steps (steps.jsonl, by the first process), a request to stop (stop), what went wrong (failure-<rank>.json),
and the seconds that were spent (result.json). Their input is this process's: when it is gone, they end at once.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spectra.errors import RunError
from spectra.storage import atomic
from spectra.sweep.spec.specification import Specification
from spectra.sweep.trial.training import OnStep, TrialTraining
from spectra.training.driver import Spent, TrainingPaused, TrainingStopped
from spectra.training.settings import Launch

LISTENING_SECONDS = 0.1
FAREWELL_SECONDS = 60.0  # for the other processes and the launcher to end after one has failed


class LaunchDiedError(RunError):
    """The processes of a launch ended without a word, such as for lack of memory: another attempt may help."""


@dataclass(frozen=True, eq=False)
class LaunchedTraining:
    """One training for several processes.

    Attributes:
        run: The run folder.
        specification: The sweep.
        training: What is trained, launch included; the first process writes.
        save_seconds: Time between training checkpoints.
    """

    run: Path
    specification: Specification
    training: TrialTraining
    save_seconds: float

    def train(self, on_step: OnStep, stop: Callable[[], bool]) -> Spent:
        """Train, or go on from the last whole checkpoint; the weights are written when this returns.

        Returns:
            Seconds by part, as `Trained.spent`.

        Raises:
            TrainingStopped: If `stop` said so; a checkpoint was written.
            RunError: With what the first process that failed had to say.
        """
        launch, log_file = self.training.settings.launch, self.training.folder.log
        if launch is None:
            raise TypeError("a training without a launch was launched")
        with tempfile.TemporaryDirectory(prefix="spectra-launch-") as name:
            there = Path(name)
            atomic.write_json(there / "order.json", self._order())
            log_file.parent.mkdir(parents=True, exist_ok=True)
            with log_file.open("a") as log:
                process = subprocess.Popen(
                    _command(launch, there),
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ},
                    start_new_session=True,  # a Ctrl-C in the terminal reaches this process alone
                )
                try:
                    _listen(process, there, on_step, stop)
                finally:
                    _end(process)
            return result_of(there, process.returncode, launch)

    def _order(self) -> dict[str, Any]:
        return {
            "run": str(self.run),
            "specification": self.specification.model_dump(mode="json", exclude_unset=True),
            "training": self.training.to_dict(),
            "save_seconds": self.save_seconds,
        }


def _command(launch: Launch, there: Path) -> list[str]:
    """The launcher; a port of its own each, and the GPUs that this process may see."""
    return [
        sys.executable, "-m", "accelerate.commands.launch", "--config_file", launch.accelerate,
        "--main_process_port", "0", "--gpu_ids", "all", "--module", "spectra.sweep.trial.process", str(there),
    ]  # fmt: skip


def _listen(process: "subprocess.Popen[bytes]", there: Path, on_step: OnStep, stop: Callable[[], bool]) -> None:
    """Pass steps on, and a request to stop, until the launcher ends."""
    told = _Steps(there / "steps.jsonl")
    while True:
        try:
            process.wait(LISTENING_SECONDS)
        except subprocess.TimeoutExpired:
            if stop():
                (there / "stop").touch()
        for step, steps, validation in told.new():
            on_step(step, steps, validation)
        if process.returncode is not None:
            return


def _end(process: "subprocess.Popen[bytes]") -> None:
    """No process outlives this call: they end when their input does."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(FAREWELL_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def result_of(there: Path, code: int, launch: Launch) -> Spent:
    """What the processes left in their folder: seconds by part, or the reason why there are none."""
    failures = [atomic.read_json(path) for path in there.glob("failure-*.json")]
    own = [failure for failure in failures if not failure["another_is_gone"]]
    if own:
        first = min(own, key=lambda failure: failure["when"])
        raise RunError(f"{first['error']} (Process {first['rank'] + 1} of {launch.processes}.)")
    if not (there / "result.json").exists():
        raise LaunchDiedError(
            f"The launch of {launch.processes} processes ended with code {code} before the training did, perhaps for "
            "lack of memory. Run the sweep again."
        )
    result = atomic.read_json(there / "result.json")
    if "paused" in result:
        raise TrainingPaused(result["paused"])
    if "stopped" in result:
        raise TrainingStopped
    spent: Spent = result["spent"]
    return spent


class _Steps:
    """Whole lines that were added to a file since it was last looked at."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0

    def new(self) -> Iterator[tuple[int, int, tuple[str, float] | None]]:
        """The steps that were reported since."""
        if not self._path.exists():
            return
        with self._path.open("rb") as stream:
            stream.seek(self._read)
            whole, _, _ = stream.read().rpartition(b"\n")
        if whole:
            self._read += len(whole) + 1
            for line in whole.splitlines():
                step, steps, validation = json.loads(line)
                yield step, steps, tuple(validation) if validation else None
