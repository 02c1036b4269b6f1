"""Kill -9 at random moments of a sweep: the driver, a worker, a node of a Ray cluster; then run it again and compare.

Twelve small trials of a tiny model. Every round draws a victim and a moment (so many trials are done, and so many
seconds have passed since), kills, runs the same command again, and holds the tables against those of an undisturbed
sweep. Run from the root:

    python -m scripts.torture_sweep --seed 0 --rounds 10
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from ray.cluster_utils import Cluster

from spectra.runs import Run
from tests import tiny
from tests.sweep.conftest import assert_same_tables

TRIALS = 12
VICTIMS = ("driver", "worker", "driver on ray", "worker on ray", "node of ray")


def specification(folder: Path) -> dict[str, Any]:
    """Twelve trials: two rates of full fine-tuning and four ranks of LoRA, two seeds each."""
    heldout = tiny.save_sentiment(folder / "heldout.jsonl", 200, seed=5)
    return {
        "base": tiny.save_model(folder / "bert", "bert"),
        "task": tiny.save_sentiment(folder / "task.jsonl", 300),
        "heldout": [{"task": heldout, "max_length": 16}],
        "methods": [
            {"method": "full", "learning_rate": [1e-2, 1e-3]},
            {"method": "lora", "rank": [1, 2, 4, 8], "learning_rate": 3e-2},
        ],
        "seeds": [0, 1],
        "steps": 40,
        "batch_size": 4,
        "max_length": 16,
    }


def start(given: dict[str, Any], out: Path, ray: str | None) -> "subprocess.Popen[str]":
    """`spectra sweep` in a process of its own."""
    path = out.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(given))
    command = [sys.executable, "-m", "spectra", "sweep", str(path), "--out", str(out), "--quiet"]
    command += ["--ray", ray] if ray else []
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: "subprocess.Popen[str]") -> None:
    """Wait for a sweep that nobody killed."""
    _, errors = process.communicate(timeout=600)
    if process.returncode:
        raise SystemExit(f"the sweep ended with {process.returncode}:\n{errors}")


def children(parents: list[int], named: str) -> list[int]:
    """Process ids of the children with this in their command line."""
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", ",".join(map(str, parents))], capture_output=True, text=True
    )
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if named in line]


def strike(victim: str, driver: "subprocess.Popen[str]", cluster: Cluster, draw: random.Random) -> str:
    """Kill the victim; says what was killed."""
    if victim.startswith("driver"):
        driver.kill()
        return "driver"
    if victim == "node of ray":
        node = cluster.worker_nodes.pop()
        os.kill(raylet(node), signal.SIGKILL)  # its workers and agents end with it
        return "node"
    raylets = [raylet(node) for node in cluster.list_all_nodes()]
    workers = (
        children(raylets, "ray::do_job")
        if "ray" in victim
        else children([driver.pid], "spectra.sweep.execution.worker")
    )
    if workers:
        os.kill(draw.choice(workers), signal.SIGKILL)
    return "worker" if workers else "nobody: no worker yet"


def raylet(node: Any) -> int:
    """Process id of a node."""
    return int(node.all_processes["raylet"][0].process.pid)


def stamps(out: Path) -> dict[Path, int]:
    """When each trial's training and each whole trial was finished."""
    marks = [path for name in ("finished", "history.parquet", "test.json") for path in out.glob(f"trials/*/{name}")]
    return {path: path.stat().st_mtime_ns for path in marks}


def same(run: Run, expected: Run) -> bool:
    """Whether all tables agree, timings aside."""
    try:
        assert_same_tables(run, expected)
    except AssertionError as difference:
        print(difference, file=sys.stderr)
        return False
    return True


def main() -> None:
    """Torture, and print one row per round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    victims = draw.sample([VICTIMS[number % len(VICTIMS)] for number in range(arguments.rounds)], arguments.rounds)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given = specification(folder)
        process = start(given, folder / "undisturbed", None)
        wait_for(folder / "undisturbed", 0, process)
        began = time.monotonic()
        ended(process)
        whole = time.monotonic() - began
        print(f"undisturbed: {whole:.0f} s; seed {arguments.seed}\n")
        for number, victim in enumerate(victims):
            row = torture(given, folder, number, victim, whole, cluster, draw)
            if not number:
                print("|", " | ".join(row), "|\n|" + "---|" * len(row))
            print("|", " | ".join(map(str, row.values())), "|", flush=True)
    cluster.shutdown()


def wait_for(out: Path, done: int, process: "subprocess.Popen[str]") -> None:
    """Wait until so many trials are done and a sweep has begun; a sweep that ended is not waited for."""
    while process.poll() is None and not (
        (out / "sweep.json").exists() and len(list(out.glob("trials/*/finished"))) >= done
    ):
        time.sleep(0.02)


def torture(
    given: dict[str, Any], folder: Path, number: int, victim: str, whole: float, cluster: Cluster, draw: random.Random
) -> dict[str, Any]:
    """One round."""
    out = folder / f"round-{number}"
    if len(cluster.list_all_nodes()) == 1:
        cluster.add_node(num_cpus=1)
    address = cluster.address if "ray" in victim else None
    done, delay = draw.randrange(TRIALS), draw.uniform(0, whole / TRIALS)
    process = start(given, out, address)
    wait_for(out, done, process)
    time.sleep(delay)
    early = process.poll() is not None
    killed = "nobody: the sweep was done" if early else strike(victim, process, cluster, draw)
    before = stamps(out)
    if killed == "driver":
        process.communicate()
    else:
        ended(process)
    ended(start(given, out, address))
    after = stamps(out)
    run = Run.open(out)
    return {
        "round": number + 1,
        "victim": victim,
        "killed": killed,
        "drawn moment": f"{done} trials done + {delay:.1f} s",
        "trials done then": sum(path.name == "finished" for path in before),
        "trials done": sum(path.name == "finished" for path in after),
        "done twice": sum(after.get(path) != stamp for path, stamp in before.items()),
        "partial files": len(list(out.rglob("*.partial"))),
        "same tables": same(run, Run.open(folder / "undisturbed")),
    }


if __name__ == "__main__":
    main()
