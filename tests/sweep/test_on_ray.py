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
from tests.sweep.test_launch import config

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


def test_a_training_that_processes_share_is_one_task(cluster: Any, given: dict[str, Any], tmp_path: Path) -> None:
    given |= {"steps": 3, "trajectory": 0}
    shared = run_sweep({**given, "launch": {"accelerate": config(tmp_path)}}, tmp_path / "run", executor="ray")
    alone = run_sweep(given, tmp_path / "alone", executor="inline")
    [one], [other] = (run.table("trials")["update_frobenius"] for run in (alone, shared))
    assert one == pytest.approx(other, rel=1e-3)


def test_a_killed_worker_is_blamed_a_killed_node_is_not_and_the_table_is_the_same(
    cluster: Any, undisturbed: Run, specification: dict[str, Any], tmp_path: Path
) -> None:
    seen: list[Event] = []

    def on_event(event: Event) -> None:
        moment = (event.what, event.job.kind, event.stage)
        first = moment not in {(one.what, one.job.kind, one.stage) for one in seen}
        seen.append(event)
        if first and moment == ("started", "trial", "training"):
            os.kill(workers(cluster)[0], signal.SIGKILL)
        if first and moment == ("done", "trial", ""):
            cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)

    run = run_sweep(specification, tmp_path / "run", executor="ray", on_event=on_event)
    assert len(cluster.list_all_nodes()) == 1
    messages = [event.message for event in seen if event.what in ("retried", "failed")]
    assert messages == ["The worker died on its node, perhaps for lack of memory. Run the sweep again."]
    assert_same_tables(run, undisturbed)
