"""One of the processes that share a training, as `accelerate launch` starts it; see `launched`."""

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from spectra.registry import plugin_modules, use_plugins
from spectra.runs import Run
from spectra.storage import atomic
from spectra.sweep.execution.logs import sentence, told_traceback
from spectra.sweep.spec.specification import Specification
from spectra.sweep.trial.runner import Runner
from spectra.sweep.trial.training import TrialTraining
from spectra.training.distributed import is_main_process
from spectra.training.driver import TrainingPaused, TrainingStopped

ORPHANED = 70
# What gloo and NCCL say in the processes that are left when one is gone; why it went they do not know.
OF_A_LOST_PROCESS = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process exited")


def main() -> None:
    """Train; a failure is written down in the exception's own words, for whoever launched."""
    threading.Thread(target=_end_with_the_launcher, daemon=True).start()
    there = Path(sys.argv[1])
    order = atomic.read_json(there / "order.json")
    training = TrialTraining.from_dict(order["training"])
    rank = int(os.environ.get("RANK", "0"))
    try:
        result = _train(there, order, training)
    except Exception as error:  # noqa: BLE001 - whatever it is, the others must not wait for it
        sys.stderr.write(told_traceback())
        failure = {
            "error": sentence(error, training.folder.log),
            "rank": rank,
            "when": time.time(),
            "another_is_gone": any(words in str(error) for words in OF_A_LOST_PROCESS),
        }
        atomic.write_json(there / f"failure-{rank}.json", failure)
        sys.stderr.flush()
        os._exit(1)  # at once: the others wait for this one in the middle of a sum
    if is_main_process():
        atomic.write_json(there / "result.json", result)


def _train(there: Path, order: dict[str, Any], training: TrialTraining) -> dict[str, Any]:
    use_plugins(plugin_modules())
    specification = Specification.model_validate(order["specification"])
    runner = Runner(Run.open(order["run"]), specification, (there / "stop").exists, order["save_seconds"])
    steps = (there / "steps.jsonl").open("a", buffering=1) if is_main_process() else None

    def on_step(step: int, of: int, validation: tuple[str, float] | None) -> None:
        if steps is not None:
            steps.write(json.dumps([step, of, validation]) + "\n")

    try:
        spent = runner.train_here(training, on_step)
    except TrainingPaused as paused:
        return {"paused": paused.score}
    except TrainingStopped:
        return {"stopped": True}
    return {"spent": dict(spent)}


def _end_with_the_launcher() -> None:
    """Whoever launched holds the other end of this input; it closes when that process is gone, or has had enough."""
    sys.stdin.buffer.read()
    os._exit(ORPHANED)


if __name__ == "__main__":
    main()
