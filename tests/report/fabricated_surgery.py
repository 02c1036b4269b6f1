"""Fabricated results of extracting, resizing and merging adapters, for their pages."""

import math

from spectra.records.merge import Merge, MergedMatrix, MergedPair
from spectra.records.surgery import ReducedMatrix, Reduction
from spectra.records.verdicts import Skipped

FOLDER = "/home/somebody/models"
VALUES = (4.0, 3.0, 2.0, 1.5, 1.0, 0.6, 0.3, 0.1)


def reduction(rank: int = 3, layers: int = 4) -> Reduction:
    """An adapter of rank 8, cut to `rank`; the original has intruders, and half of them stay."""
    matrices = []
    for layer in range(layers):
        values = tuple(value * (1 + layer) for value in VALUES)
        left_out = math.hypot(*values[rank:])
        matrices.append(
            ReducedMatrix(
                name=f"layers.{layer}.self_attn.q_proj",
                layer=layer,
                role="q_proj",
                shape=(64, 64),
                rank_before=len(values),
                rank=rank,
                norm=math.hypot(*values),
                error=left_out,
                least_error=left_out,
                spectral_error=values[rank],
                singular_values=values,
                method="factors",
                count_before=2 * layer,
                count_after=layer,
            )
        )
    return Reduction(
        "resize", f"{FOLDER}/my-adapter", f"{FOLDER}/base", f"{FOLDER}/smaller", f"rank {rank}", 10, 0.5,
        tuple(matrices),
        left_behind=(Skipped("embed_tokens", "changed by 0.2 of its norm"),),
        warnings=("1 tensor changed and is not in the adapter.",),
    )  # fmt: skip


def merge(*, reinforced: bool = False) -> Merge:
    """Two adapters that partly cancel, or reinforce each other."""
    norm = 1.7 if reinforced else 0.9
    matrices = [
        MergedMatrix(
            f"layers.{layer}.self_attn.q_proj", layer, "q_proj", (64, 64), 16, (1.0, 1.0), norm + 0.02 * layer,
            0.5 + 0.1 * layer, (layer, 2 * layer), 3 * layer, layer // 2, 0.4, 0.5,
        )
        for layer in range(4)
    ]  # fmt: skip
    pair = MergedPair(0, 1, 4, 0.45 if reinforced else -0.6, 1.0, 0.3, 0.05, 4, 0.2, 0.05, 3)
    adapters = (f"{FOLDER}/first", f"{FOLDER}/second")
    return Merge(adapters, (1.0, 1.0), f"{FOLDER}/base", 10, 0.5, 8, tuple(matrices), (pair,), out=f"{FOLDER}/both")
