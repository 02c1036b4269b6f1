"""The same sweep on a Ray cluster of two nodes, both on this machine."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spectra.runs import Run
from spectra.sweep import Event, run_sweep
from tests.sweep.conftest import assert_same_tables

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head and a second node, one CPU each; joined for the whole module, so that workers start once."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def workers(cluster: Any) -> list[int]:
    """Process ids of the workers of all nodes that are doing a job now."""
    raylets = [str(one.process.pid) for node in cluster.list_all_nodes() for one in node.all_processes["raylet"]]
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", ",".join(raylets)], capture_output=True, text=True, check=True
    )
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if "ray::do_job" in line]


def test_two_nodes_give_the_table_of_one_process(
    cluster: Any, undisturbed: Run, specification: dict[str, Any], tmp_path: Path
) -> None:
    events: list[Event] = []
    run = run_sweep(specification, tmp_path / "run", executor="ray", on_event=events.append)
    assert_same_tables(run, undisturbed)
    done = [event.job for event in events if event.what == "done" and event.job.kind == "trial"]
    assert sorted(job.trial.id for job in done) == sorted(undisturbed.table("trials")["trial"])
    assert {event.what for event in events} == {"started", "step", "done"}


def test_a_killed_worker_is_blamed_on_its_trial(
    cluster: Any, undisturbed: Run, specification: dict[str, Any], tmp_path: Path
) -> None:
    seen: list[Event] = []

    def on_event(event: Event) -> None:
        if event.stage == "training" and event.what == "started" and not any(one.stage == "training" for one in seen):
            for worker in workers(cluster):
                os.kill(worker, signal.SIGKILL)
        seen.append(event)

    run = run_sweep(specification, tmp_path / "run", executor="ray", on_event=on_event)
    messages = {event.message for event in seen if event.what == "retried"}
    assert messages == {"The worker died on its node, perhaps for lack of memory. Run the sweep again."}
    assert_same_tables(run, undisturbed)


def test_a_trial_that_kills_its_workers_fails_alone(
    cluster: Any, specification: dict[str, Any], tmp_path: Path
) -> None:
    fewer = {**specification, "methods": [{"method": "lora", "rank": [1, 4], "learning_rate": 3e-2}], "heldout": []}
    deaths: list[Event] = []

    def on_event(event: Event) -> None:
        if event.stage == "training" and event.what == "started" and event.job.trial.settings.rank == 4:
            deaths.append(event)
            for worker in workers(cluster):
                os.kill(worker, signal.SIGKILL)

    # One at a time, so that no other trial is hit.
    run = run_sweep(fewer, tmp_path / "run", executor="ray", workers=1, on_event=on_event)
    assert len(deaths) == 3
    trials = run.table("trials").set_index("rank")
    assert trials["status"].to_dict() == {1: "done", 4: "failed"}
    assert "The worker died on its node" in str(trials.loc[4, "error"])


def test_a_killed_node_is_survived_and_blames_no_trial(
    cluster: Any, undisturbed: Run, specification: dict[str, Any], tmp_path: Path
) -> None:
    seen: list[Event] = []

    def on_event(event: Event) -> None:
        busy = event.job.kind == "trial" and event.what == "done"
        seen.append(event)
        if busy and sum(one.what == "done" and one.job.kind == "trial" for one in seen) == 1:
            cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)

    run = run_sweep(specification, tmp_path / "run", executor="ray", on_event=on_event)
    assert len(cluster.list_all_nodes()) == 1
    assert {event.what for event in seen} == {"started", "step", "done"}
    assert_same_tables(run, undisturbed)
