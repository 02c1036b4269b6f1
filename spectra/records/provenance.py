"""What a result was made with: versions, hardware, commit. Read without importing any heavy package."""

import importlib
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

from spectra.errors import without_secrets

PACKAGES = ("torch", "numpy", "scipy", "pandas", "transformers", "peft", "accelerate", "datasets", "safetensors")


@cache
def versions() -> Mapping[str, str]:
    """Versions of `spectra`, Python and the packages that results depend on; an absent package is left out."""
    found = {"spectra": importlib.import_module("spectra").__version__, "python": platform.python_version()}
    for name in PACKAGES:
        if version := package_version(name):
            found[name] = version
    return found


def package_version(name: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


@cache
def commit() -> str | None:
    """The git commit of the source tree this package runs from, with "+" when it has changes; None outside git."""
    source = Path(__file__).resolve().parent.parent.parent
    if not (source / ".git").exists():
        return None
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=source, capture_output=True, text=True, timeout=10
        )
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=source,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if head.returncode != 0:
        return None
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def hardware() -> Mapping[str, str | int]:
    """Machine, processor count and memory, as far as the operating system tells without extra packages."""
    facts: dict[str, str | int] = {
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        facts["memory_bytes"] = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return facts


def command_line() -> str:
    """The command that this process was started with, as one would type it again; addresses without their secrets."""
    name = Path(sys.argv[0]).name
    start = ["python", "-m", "spectra"] if name == "__main__.py" else [name]
    return shlex.join([*start, *map(without_secrets, sys.argv[1:])])
