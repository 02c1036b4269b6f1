"""The factor of a LoRA update: the one place that computes it."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class LoraSettings:
    """What a LoRA configuration says about one module.

    Attributes:
        rank: Columns of B.
        alpha: Numerator of the scaling.
        rank_stabilised: True for rsLoRA's  alpha / sqrt(rank).
    """

    rank: int
    alpha: float
    rank_stabilised: bool = False

    @property
    def scaling(self) -> float:
        """alpha / rank, or alpha / sqrt(rank) when rank-stabilised.

        Source: Hu et al. 2021, arXiv:2106.09685, section 4.1; Kalajdzievski 2023, arXiv:2312.03732, Theorem 3.2.
        """
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)


@dataclass(frozen=True)
class LoraPatterns:
    """Rank and alpha of a LoRA configuration, with the exceptions that patterns make for some modules."""

    rank: int
    alpha: float
    rank_stabilised: bool = False
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "LoraPatterns":
        """Read the fields of an adapter_config.json."""
        return cls(
            config["r"],
            float(config["lora_alpha"]),
            bool(config.get("use_rslora")),
            dict(config.get("rank_pattern") or {}),
            {pattern: float(alpha) for pattern, alpha in (config.get("alpha_pattern") or {}).items()},
        )

    def settings(self, module: str) -> LoraSettings:
        """What holds for a module: the first pattern that matches the end of its name wins, as in peft."""
        return LoraSettings(
            self.rank_pattern.get(_matching(self.rank_pattern, module), self.rank),
            self.alpha_pattern.get(_matching(self.alpha_pattern, module), self.alpha),
            self.rank_stabilised,
        )


def exact_patterns(modules: Sequence[str]) -> dict[str, str]:
    """For every module, a key of `rank_pattern` or `alpha_pattern` that matches it and no other one of them.

    The plain name wherever that is enough: any other expression has to be tried on a clock before it is trusted.
    """
    by_length: dict[int, list[str]] = {}
    for module in modules:
        by_length.setdefault(len(module), []).append(module)
    ends = {other[place + 1 :] for other in modules for place, letter in enumerate(other) if letter == "."}
    return {
        module: module
        if re.fullmatch(r"[\w.\-/]+", module)
        and module not in ends
        and not any(other != module and re.fullmatch(module, other) for other in by_length[len(module)])
        else f"^{re.escape(module)}"
        for module in modules
    }


def _matching(patterns: Mapping[str, Any], module: str) -> str:
    return next((key for key in patterns if re.match(rf"(.*\.)?({key})$", module)), module)
