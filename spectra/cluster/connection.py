"""Joining a Ray cluster, and what it offers."""

import importlib.util
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from spectra.errors import ClusterError, needs

# Variables of the driver that its workers need, wherever they run: where models and caches lie, how threads wait.
# A list and no prefixes: Ray writes the environment of its tasks into logs that every user of a node can read, and
# HF_TOKEN must not stand there. Workers use the login of the machine that they run on.
PASSED_ON = (
    *("SPECTRA_CACHE", "SPECTRA_CONFIG", "SPECTRA_PLUGINS", "SPECTRA_TRUST_REMOTE_CODE", "XDG_CACHE_HOME"),
    *("HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_ENDPOINT"),
    *("TRANSFORMERS_OFFLINE", "TRANSFORMERS_VERBOSITY", "TOKENIZERS_PARALLELISM"),
    *("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
)
PATIENCE_SECONDS = 5.0
DEFAULT_PORT = 6379


@contextmanager
def joined(address: str) -> Iterator[Any]:
    """Join a running cluster; yields the module ray, and leaves the cluster at the end if this call joined it.

    Args:
        address: "auto" for the cluster that this machine is part of, else HOST:PORT of its head.

    Raises:
        ClusterError: If Ray is not installed, or no cluster answers.
    """
    if importlib.util.find_spec("ray") is None:
        raise ClusterError(needs(f"--ray {address}", "ray", "ray"))
    import ray

    if ray.is_initialized():
        yield ray
        return
    if address != "auto":
        _require_answer(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        where = "this machine is part of no cluster" if address == "auto" else f"none answers at {address}"
        raise ClusterError(
            f"There is no Ray cluster to join: {where}. Start one with `ray start --head`, or name its HOST:PORT."
        ) from error
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise ClusterError(f"The Ray cluster '{address}' cannot be joined ({reason}). Mend that first.") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Ray itself waits for a minute before it says that nobody answers, and then ends the process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host:
        host, port = port, str(DEFAULT_PORT)
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ClusterError(f"'{address}' is no address of a Ray cluster. Write auto, or HOST:PORT such as node1:6379.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE_SECONDS).close()
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise ClusterError(
            f"No Ray cluster answers at '{address}' ({reason}). Start one with `ray start --head`, "
            "or correct the address."
        ) from error


@dataclass(frozen=True)
class Places:
    """How many tasks of one size the nodes of a cluster hold at once.

    Attributes:
        cpus: CPUs per task.
        gpus: GPUs per task.
        count: How many tasks run at once.
        nodes: Nodes that are alive.
    """

    cpus: float
    gpus: float
    count: int
    nodes: int


def places(ray: Any, cpus: float, gpus: float | None) -> Places:
    """Count the places of a joined cluster.

    Args:
        ray: What `joined` yields.
        cpus: CPUs per task.
        gpus: GPUs per task; None takes one where any node has GPUs, and none elsewhere.

    Raises:
        ClusterError: If no node is large enough for one task.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if gpus is None:
        gpus = 1.0 if any(node.get("GPU", 0) >= 1 for node in nodes) else 0.0
    count = sum(_fitting(node, cpus, gpus) for node in nodes)
    if not count:
        offers = "; ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes)
        raise ClusterError(
            f"A trial asks for {cpus:g} CPUs and {gpus:g} GPUs, but the nodes of the cluster have {offers}. "
            "Ask for less."
        )
    return Places(cpus, gpus, count, len(nodes))


def _fitting(node: dict[str, float], cpus: float, gpus: float) -> int:
    shares = [node.get(name, 0.0) // asked for name, asked in (("CPU", cpus), ("GPU", gpus)) if asked]
    return int(min(shares, default=1))


def passed_on() -> dict[str, dict[str, str]]:
    """The runtime environment of a task: variables of this process that its worker must see too."""
    given = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    if "@" in given.get("HF_ENDPOINT", ""):  # the address of a mirror may carry a password
        del given["HF_ENDPOINT"]
    return {"env_vars": given}
