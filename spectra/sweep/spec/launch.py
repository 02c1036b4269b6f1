"""A launch: the processes that share one trial, as the user's configuration of accelerate describes them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spectra.errors import SpecificationError
from spectra.storage.regular import read_regular
from spectra.sweep.spec.yaml_text import read_yaml
from spectra.training.settings import Distribution, Launch

MAX_BYTES = 1_000_000
PRECISIONS = {"no": "float32", "bf16": "bfloat16", "fp16": "float16"}
KNOWN = "MULTI_GPU (a whole copy of the model per GPU) or FSDP (weights divided; fsdp_version: 2)"


def read_launch(path: str, *, precision: str, batch_size: int) -> Launch:
    """The launch that a configuration of accelerate describes.

    Args:
        path: The YAML file that `accelerate config` writes.
        precision: Of the training; the file has to agree.
        batch_size: Examples that the processes share.

    Raises:
        SpecificationError: If there is no such file, or what it says cannot be done.
    """
    name = f"'{path}', the launch's configuration of accelerate,"
    if not Path(path).exists():
        raise SpecificationError(f"{name} does not exist. Write it with `accelerate config --config_file {path}`.")
    try:
        text = read_regular(Path(path), MAX_BYTES, SpecificationError).decode("utf-8")
    except UnicodeDecodeError as error:
        raise SpecificationError(f"{name} is not UTF-8 at byte {error.start}. Save it as UTF-8.") from error
    values, _ = read_yaml(name.rstrip(","), text)
    if not isinstance(values, Mapping):
        raise SpecificationError(f"{name} holds no fields. Write it with `accelerate config --config_file {path}`.")
    _require_one_machine(name, values)
    processes = values.get("num_processes")
    if isinstance(processes, bool) or not isinstance(processes, int) or processes < 2:
        raise SpecificationError(
            f"{name} has num_processes {processes!r}. Give a number of at least 2, or remove launch: one process needs "
            "none."
        )
    if batch_size % processes:
        raise SpecificationError(
            f"{name} has {processes} processes, which share each batch, and batch_size is {batch_size}. "
            f"Make batch_size a multiple of {processes}."
        )
    given = str(values.get("mixed_precision", "no"))
    if given not in ("no", "False") and PRECISIONS.get(given) != precision:  # YAML reads a bare no as false
        raise SpecificationError(
            f"{name} has mixed_precision {given}, and precision is {precision}. Write mixed_precision: 'no' there; the "
            "specification says what is computed in."
        )
    return Launch(path, processes, _distribution(name, values), values.get("use_cpu") is True)


def _distribution(name: str, values: Mapping[str, Any]) -> Distribution:
    kind = values.get("distributed_type")
    if kind == "MULTI_GPU":
        return "ddp"
    if kind != "FSDP":
        raise SpecificationError(f"{name} has distributed_type {kind!r}. Use {KNOWN}.")
    options = values.get("fsdp_config")
    options = options if isinstance(options, Mapping) else {}
    version = options.get("fsdp_version")
    if version != 2:
        raise SpecificationError(
            f"{name} has fsdp_version {version!r} under fsdp_config, and version 1 hides the trained matrices. "
            "Write fsdp_version: 2."
        )
    return "fsdp2"


def _require_one_machine(name: str, values: Mapping[str, Any]) -> None:
    where = values.get("compute_environment", "LOCAL_MACHINE")
    if where != "LOCAL_MACHINE":
        raise SpecificationError(f"{name} has compute_environment {where!r}. A trial runs on LOCAL_MACHINE.")
    machines = values.get("num_machines", 1)
    if machines != 1:
        raise SpecificationError(
            f"{name} has num_machines {machines!r}, and a trial stays on one machine. Write num_machines: 1."
        )
