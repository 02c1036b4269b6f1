"""Kills at the worst moments: the driver, a worker, one of two drivers on the same folder."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from spectra.runs import Run
from spectra.sweep import Event, run_sweep
from tests.sweep.conftest import assert_same_tables


def driver(specification: dict[str, Any], out: Path) -> "subprocess.Popen[str]":
    """`spectra sweep` in a process of its own."""
    path = out.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(specification))
    command = [sys.executable, "-m", "spectra", "sweep", str(path), "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until(happened: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def finished(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in out.glob("trials/*/finished")}


def test_a_killed_driver_loses_nothing_and_repeats_nothing(
    undisturbed: Run, specification: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    process = driver(specification, out)
    wait_until(lambda: len(finished(out)) >= 1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = finished(out)
    run = run_sweep(specification, out, executor="inline")
    assert {path: stamp for path, stamp in finished(out).items() if path in done} == done
    assert_same_tables(run, undisturbed)
    assert not list(out.rglob("*.partial"))


def test_a_killed_worker_is_blamed_and_its_trial_tried_again(
    undisturbed: Run, specification: dict[str, Any], tmp_path: Path
) -> None:
    seen: list[Event] = []
    killed: list[int] = []

    def on_event(event: Event) -> None:
        seen.append(event)
        if event.what == "step" and event.step == 6 and not killed:
            (worker,) = children(os.getpid())
            killed.append(worker)
            os.kill(worker, signal.SIGKILL)

    run = run_sweep(specification, tmp_path / "run", on_event=on_event)
    messages = [event.message for event in seen if event.what == "retried"]
    assert messages == ["The worker was ended by SIGKILL, perhaps for lack of memory. Run the sweep again."]
    assert_same_tables(run, undisturbed)


def test_two_drivers_share_one_folder(undisturbed: Run, specification: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "run"
    program = "import json, sys; from spectra.sweep import run_sweep; run_sweep(**json.loads(sys.argv[1]))"
    shards = []
    for part in (1, 2):
        given = {"specification": specification, "out": str(out), "shard": [part, 2], "executor": "inline"}
        command = [sys.executable, "-c", program, json.dumps(given)]
        shards.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    for process in shards:
        _, errors = process.communicate(timeout=180)
        assert process.returncode == 0, errors
    assert_same_tables(Run.open(out), undisturbed)


def test_ctrl_c_stops_cleanly_and_the_next_call_goes_on(
    undisturbed: Run, specification: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    process = driver(specification, out)
    wait_until(lambda: any(out.glob("trials/*/history.parquet")))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors.rstrip().endswith("Stopped; nothing is lost. Run the same command to go on.")
    assert "Traceback" not in errors
    assert_same_tables(run_sweep(specification, out, executor="inline"), undisturbed)


def test_a_bug_of_the_onlooker_ends_the_sweep_instead_of_hanging(specification: dict[str, Any], tmp_path: Path) -> None:
    def on_event(event: Event) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_sweep(specification, tmp_path / "run", on_event=on_event)
    assert children(os.getpid()) == []


def children(parent: int) -> list[int]:
    """Process ids of the workers that a process started."""
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(parent)], capture_output=True, text=True, check=True
    )
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if "spectra.sweep.execution.worker" in line]
