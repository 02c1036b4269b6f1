"""Configurations out of all proportion: a model of a billion layers, or one far larger than what its files hold.

transformers builds whatever a config.json says before it looks at a weight, which takes hours or all memory.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spectra.errors import AdapterError, CheckpointError

# Settings that say how many modules are built, and far more of them than any published model has.
COUNTS = (
    (re.compile(r"layer|depth|block|stage"), 5_000),
    (re.compile(r"expert"), 50_000),
    (re.compile(r"label"), 1_000_000),
)
# Ends of names that say how large something is, which costs nothing before a weight is read.
SIZES = ("_size", "_dim", "_len", "_length", "_window", "_positions", "_id", "_token", "_ids", "_seed")
# Ends of names of tables, whose keys are no settings: a label may be called "stage".
NAMED = ("2id", "2label")
# Numbers per byte of the files: packed weights have two, and a model that is not trained yet has a new head.
MOST_PER_BYTE, FREE = 4, 10_000_000
# Settings of adapters that say how many rows a factor has, and what is made of them in a moment.
RANKS, SMALL_RANK = ("r", "init_r", "target_r"), 4096


def require_countable(config: Mapping[Any, Any], where: str) -> None:
    """Refuse a configuration with more layers, experts or labels than are ever built.

    Args:
        config: The content of a config.json.
        where: Whose it is, for the message.

    Raises:
        CheckpointError: Naming the setting.
    """
    for key, value in _counts(config):
        for pattern, most in COUNTS:
            if pattern.search(key) and value > most:
                raise CheckpointError(
                    f"The configuration of '{where}' sets {key} to {str(value)[:40]}, and at most {most} are built. "
                    "Download or save it again."
                )


def require_proportionate(build: Callable[[], nn.Module], folder: Path) -> None:
    """Refuse a model far larger than its files.

    Args:
        build: Makes the model; called where no memory is taken.
        folder: With safetensors files.

    Raises:
        CheckpointError: With both sizes.
    """
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = build()
    numbers = sum(tensor.numel() for tensors in (model.parameters(), model.buffers()) for tensor in tensors)
    held = sum(file.stat().st_size for file in folder.glob("*.safetensors") if file.is_file())
    if numbers > MOST_PER_BYTE * held + FREE:
        raise CheckpointError(
            f"The configuration of '{folder}' describes a model of {numbers} numbers, and its files hold {held} bytes. "
            "Download or save it again."
        )


def require_proportionate_adapter(config: Mapping[str, Any], largest: int, where: str) -> None:
    """Refuse an adapter whose configuration is larger than its tensors: peft makes the factors before it reads them.

    Args:
        config: The content of its adapter_config.json.
        largest: Longest axis of its tensors.
        where: Whose it is, for the message.

    Raises:
        AdapterError: Naming the setting.
    """
    pattern = config.get("rank_pattern")
    ranks = [(name, config.get(name)) for name in RANKS]
    ranks += [("rank_pattern", rank) for rank in pattern.values()] if isinstance(pattern, Mapping) else []
    if config.get("peft_type") == "LOKR":  # any rank above those of its matrices stands for the whole matrix
        ranks = []
    for name, rank in ranks:
        if isinstance(rank, int) and rank > max(largest, SMALL_RANK):
            raise AdapterError(
                f"'{where}' sets {name} to {str(rank)[:40]}, and no tensor has an axis of that length. "
                "Save the adapter again."
            )
    copied = config.get("layer_replication")
    if isinstance(copied, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in copied):
        layers = sum(end - start for start, end in copied if isinstance(start, int) and isinstance(end, int))
        if layers > COUNTS[0][1]:
            raise AdapterError(
                f"'{where}' sets layer_replication to {str(layers)[:40]} layers, and at most {COUNTS[0][1]} are "
                "built. Save the adapter again."
            )


def _counts(config: Mapping[Any, Any]) -> Iterator[tuple[str, int]]:
    """Whole numbers by the names of their settings, at any depth; of lists, the largest."""
    for key, value in config.items():
        if str(key).endswith(NAMED):
            continue
        if isinstance(value, Mapping):
            yield from _counts(value)
        elif not str(key).endswith(SIZES):
            listed = value if isinstance(value, list) else [value]
            whole = [one for one in listed if isinstance(one, int) and not isinstance(one, bool)]
            if whole:
                yield str(key), max(whole)
