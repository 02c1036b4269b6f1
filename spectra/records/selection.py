"""What a reader of checkpoints is asked for: how their files are opened, and which of their matrices are compared.

It holds plain values and imports no torch, so that a wrong one is refused before anything is loaded.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

from spectra.errors import CheckpointError

Take = Literal["model", "adapter"]
MOST_LAYERS = 100_000


@dataclass(frozen=True)
class Selection:
    """Which matrices are compared, and how the files of a checkpoint and of its base are opened.

    By default: every linear layer of the blocks; no embeddings, no heads.

    Attributes:
        include: Regular expression; only canonical names that it matches somewhere are compared. It also opens the way
            to what the default leaves out: embeddings, heads and whatever stands outside the blocks.
        exclude: Regular expression; canonical names that it matches somewhere are left out.
        roles: Roles to compare, such as "q_proj,v_proj" or ("q_proj", "v_proj"); "dense" also names
            "attention.output.dense".
        layers: Layers to compare, such as "0-11", "0,3,8-11", 3 or (0, 3).
        split_fused: Whether fused matrices (qkv, gate_up) are taken apart and their parts compared.
        take: "adapter" or "model", where a folder holds both.
        adapter_name: Which of several adapters in one folder.
        revision: Branch, tag or commit of the checkpoint on the hub.
        base_revision: Branch, tag or commit of its base on the hub.
        tuned_base: For PiSSA, OLoRA, CorDA, LoftQ and the like: the base as the initialisation left it.
        initial_adapter: For the same: the adapter as it was saved before training.
        lora_alpha: Alpha of LoRA factors inside a full checkpoint that comes without their configuration.
        allow_pickle: Whether pickles (.bin, .pt, .ckpt) are opened, with torch's restricted loader.
        stream: Whether a model of the hub that is not in the local cache is read where it lies, by ranges of bytes,
            instead of being downloaded. None: by what only scans or inspects; never by what needs the files.

    Raises:
        CheckpointError: If a value has no meaning.
    """

    include: str | None = None
    exclude: str | None = None
    roles: str | Sequence[str] | None = None
    layers: str | int | Sequence[int] | None = None
    split_fused: bool = False
    take: Take | None = None
    adapter_name: str | None = None
    revision: str | None = None
    base_revision: str | None = None
    tuned_base: str | Path | None = None
    initial_adapter: str | Path | None = None
    lora_alpha: float | int | None = None
    allow_pickle: bool = False
    stream: bool | None = None

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        _ = self.included, self.excluded, self.chosen_roles, self.chosen_layers
        if self.take is not None and self.take not in get_args(Take):
            raise CheckpointError(f"--take is '{self.take}'. Choose model or adapter.")
        if self.lora_alpha is not None and not (math.isfinite(self.lora_alpha) and self.lora_alpha > 0):
            raise CheckpointError(f"--lora-alpha is {self.lora_alpha:g}. Give a positive number.")

    @cached_property
    def included(self) -> re.Pattern[str] | None:
        """`include`, compiled."""
        return _pattern("include", self.include)

    @cached_property
    def excluded(self) -> re.Pattern[str] | None:
        """`exclude`, compiled."""
        return _pattern("exclude", self.exclude)

    @cached_property
    def chosen_roles(self) -> frozenset[str] | None:
        """The roles, one by one; None for every role."""
        if self.roles is None:
            return None
        parts = self.roles.split(",") if isinstance(self.roles, str) else self.roles
        return frozenset(part.strip() for part in parts if part.strip())

    @cached_property
    def chosen_layers(self) -> frozenset[int] | None:
        """The layers, one by one; None for every layer, and for what stands outside the layers."""
        if self.layers is None:
            return None
        return frozenset(_layers(self.layers) if isinstance(self.layers, str) else _numbers(self.layers))

    @property
    def streaming(self) -> "Selection":
        """The same selection of a reader that needs no files: it streams unless that is forbidden."""
        return self if self.stream is not None else replace(self, stream=True)

    @property
    def narrows(self) -> bool:
        """True where matrices are chosen by name, role or layer."""
        return any(words is not None for words in (self.include, self.exclude, self.roles, self.layers))


def _pattern(option: str, text: str | None) -> re.Pattern[str] | None:
    if text is None:
        return None
    try:
        return re.compile(text)
    except re.error as error:
        raise CheckpointError(f"--{option} '{text}' is no regular expression ({error}). Correct it.") from error


def _numbers(layers: int | Sequence[int]) -> Sequence[int]:
    chosen = [layers] if isinstance(layers, int) else layers
    if outside := [layer for layer in chosen if not 0 <= layer <= MOST_LAYERS]:
        raise CheckpointError(f"There is no layer {outside[0]}. Name layers that the model has, from 0.")
    return chosen


def _layers(text: str) -> set[int]:
    chosen: set[int] = set()
    for part in text.split(","):
        span = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", part)
        if span is None or (span[2] is not None and int(span[2]) < int(span[1])):
            raise CheckpointError(f"--layers '{text}' is no list of layers. Write it like 0-11 or 0,3,8-11.")
        if int(span[2] or span[1]) > MOST_LAYERS:
            raise CheckpointError(f"--layers '{text}' goes beyond {MOST_LAYERS}. Name layers that the model has.")
        chosen.update(range(int(span[1]), int(span[2] or span[1]) + 1))
    return chosen


DEFAULT = Selection()
