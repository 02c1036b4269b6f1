"""What this machine gives to `spectra`: versions, devices, threads, the cache, the hub's state, optional packages.

Nothing here asks the network for anything.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectra.assets import cache_folder
from spectra.errors import without_secrets
from spectra.records.provenance import commit, hardware, package_version, versions
from spectra.records.verdicts import html_table

if TYPE_CHECKING:
    import pandas as pd

# Settings of the hub client and of its relatives that change where they look, or whether they may look at all.
HUB_VARIABLES = (
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HF_DATASETS_OFFLINE",
    "HF_ENDPOINT",
    "HF_HOME",
    "HF_HUB_CACHE",
)

# By package: the extra of this distribution that brings it, and what it is for.
OPTIONAL = {
    "gguf": ("gguf", "reads GGUF files as a base"),
    "ray": ("ray", "spreads sweeps and large scans over a cluster"),
    "lm-eval": ("lm-eval", "scores held-out tasks of lm-evaluation-harness"),
    "powerlaw": ("powerlaw", "fits power laws to the spectra of a scan"),
    "bitsandbytes": ("quant", "trains on quantised bases; scans read its checkpoints without it"),
}


@dataclass(frozen=True)
class Device:
    """One place to compute on: "cpu", "cuda:0", "mps"; its name; its memory where it can be asked for."""

    device: str
    name: str
    memory_bytes: int | None


@dataclass(frozen=True)
class ThreadPool:
    """One library that computes in threads, and how many it uses."""

    library: str
    threads: int


@dataclass(frozen=True)
class CacheEntry:
    """One folder or file directly in the cache folder, such as "assets" or "factors".

    Attributes:
        name: Its name.
        bytes: Size of all files in it.
        items: How many folders and files it holds directly (1 for a file).
    """

    name: str
    bytes: int
    items: int


@dataclass(frozen=True)
class Environment:
    """Everything that `spectra doctor` says.

    Attributes:
        versions: Of spectra, Python and the packages that results depend on.
        commit: The git commit of the source tree; None outside git.
        hardware: System, processors, memory.
        devices: Where torch can compute; the CPU last.
        threads: Thread pools of torch and of the BLAS libraries loaded beside it.
        cache: The cache folder (it may not exist yet).
        cache_entries: What lies in it, largest first.
        hub_offline: True when models and data sets of the hub are never asked for.
        hub: The variables that were set for the hub client.
        optional: Versions of the optional packages; None where one is absent.
    """

    versions: Mapping[str, str]
    commit: str | None
    hardware: Mapping[str, str | int]
    devices: tuple[Device, ...]
    threads: tuple[ThreadPool, ...]
    cache: str
    cache_entries: tuple[CacheEntry, ...]
    hub_offline: bool
    hub: Mapping[str, str]
    optional: Mapping[str, str | None]

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of `spectra doctor`."""
        return asdict(self)

    def rows(self) -> Iterator[dict[str, str]]:
        """One flat row per fact: the question that it belongs to, its name and its value."""
        for question, facts in (
            ("versions", {**self.versions, "commit": self.commit or "not run from a git tree"}),
            ("hardware", self.hardware),
            ("devices", {each.device: each.name for each in self.devices}),
            ("threads", {each.library: each.threads for each in self.threads}),
            ("cache", {"folder": self.cache, **{each.name: f"{each.bytes} bytes" for each in self.cache_entries}}),
            ("hub", {"state": "offline" if self.hub_offline else "may be asked", **self.hub}),
            ("optional packages", {name: version or "absent" for name, version in self.optional.items()}),
        ):
            for name, value in facts.items():
                yield {"question": question, "name": str(name), "value": str(value)}

    def to_dataframe(self) -> "pd.DataFrame":
        """One row per fact as a pandas table."""
        import pandas as pd

        return pd.DataFrame(list(self.rows()))

    def _repr_html_(self) -> str:
        """One row per fact, for notebooks."""
        return html_table(
            "This installation", ("question", "name", "value"), [tuple(row.values()) for row in self.rows()]
        )


def doctor() -> Environment:
    """Look at this machine and this installation: versions, devices, threads, cache, hub, optional packages.

    Nothing is downloaded and nothing is changed.

    Example:
        >>> found = spectra.doctor()
        >>> found.devices[-1].device, "torch" in found.versions
        ('cpu', True)
    """
    from huggingface_hub import constants

    folder = cache_folder()
    return Environment(
        versions=dict(versions()),
        commit=commit(),
        hardware=hardware(),
        devices=devices(),
        threads=thread_pools(),
        cache=str(folder),
        cache_entries=cache_entries(folder),
        hub_offline=bool(constants.HF_HUB_OFFLINE),
        hub={name: without_secrets(os.environ[name]) for name in HUB_VARIABLES if name in os.environ},
        optional={name: package_version(name) for name in OPTIONAL},
    )


def devices() -> tuple[Device, ...]:
    """Where torch can compute: every CUDA device, Apple's GPU, the CPU."""
    import torch

    found = []
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        found.append(Device(f"cuda:{index}", gpu.name, gpu.total_memory))
    if torch.backends.mps.is_available():
        found.append(Device("mps", "Apple GPU", None))
    facts = hardware()
    memory = facts.get("memory_bytes")
    return (*found, Device("cpu", str(facts["system"]), memory if isinstance(memory, int) else None))


def thread_pools() -> tuple[ThreadPool, ...]:
    """Threads of torch, and of every BLAS or OpenMP library that torch and NumPy have loaded."""
    import numpy  # noqa: F401 (its BLAS is listed only once it is loaded)
    import torch
    from threadpoolctl import threadpool_info

    pools = [ThreadPool("torch", torch.get_num_threads())]
    for pool in threadpool_info():
        name = " ".join(str(pool[key]) for key in ("internal_api", "version") if pool.get(key))
        pools.append(ThreadPool(f"{name} ({Path(pool['filepath']).name})", pool["num_threads"]))
    return tuple(pools)


def cache_entries(folder: Path) -> tuple[CacheEntry, ...]:
    """What lies directly in the cache folder and how large it is, largest first; none when there is no folder."""
    if not folder.is_dir():
        return ()
    entries = [CacheEntry(path.name, _size(path), _items(path)) for path in folder.iterdir() if path.suffix != ".lock"]
    return tuple(sorted(entries, key=lambda entry: (-entry.bytes, entry.name)))


def _items(path: Path) -> int:
    return sum(item.suffix != ".lock" for item in path.iterdir()) if path.is_dir() else 1


def _size(path: Path) -> int:
    """Bytes of a file, or of all regular files below a folder; what vanishes meanwhile counts as nothing."""
    files = path.rglob("*") if path.is_dir() else (path,)
    total = 0
    for file in files:
        try:
            total += file.stat().st_size if file.is_file() else 0
        except FileNotFoundError:
            continue
    return total
