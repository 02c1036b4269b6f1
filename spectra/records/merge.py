"""The record of a forecast: what happens to the spectra when several adapters of one base are merged."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from spectra.records.surgery import MeasuredLoss, Reduction
from spectra.records.verdicts import Skipped, html_table

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "spectra-merge-1"


@dataclass(frozen=True)
class MergedMatrix:
    """One matrix of W0 + sum_i w_i delta_W_i.

    Attributes:
        name: Canonical name.
        layer: Index of the block, or None outside the blocks.
        role: Last meaningful part of the name.
        shape: (d_out, d_in).
        rank: Rank of the stacked factors.
        norms: ||w_i delta_W_i||_F of each adapter; 0 where it does not change the matrix.
        norm: ||sum_i w_i delta_W_i||_F.
        relative: norm / ||W0||_F.
        counts: Intruder dimensions of each adapter by itself, at weight 1.
        count: Those of the merge.
        new: Those of the merge that resemble no intruder of a single adapter (largest |cos| below epsilon).
        clear_up_to: No new intruder was found at any scale of the merged update that was tried up to here.
        first_new_at: The smallest scale tried at which there is a new intruder; None where there is none.
    """

    name: str
    layer: int | None
    role: str
    shape: tuple[int, int]
    rank: int
    norms: tuple[float, ...]
    norm: float
    relative: float
    counts: tuple[int, ...]
    count: int
    new: int
    clear_up_to: float | None = None
    first_new_at: float | None = None

    @property
    def cancelled(self) -> float:
        """1 - ||sum||^2 / sum ||.||^2: energy that cancels; negative where updates reinforce each other."""
        total = sum(norm**2 for norm in self.norms)
        return 1.0 - self.norm**2 / total if total > 0 else 0.0


@dataclass(frozen=True)
class MergedPair:
    """Two adapters, over all matrices that both change.

    Attributes:
        first: Position of one adapter, from 0.
        second: Position of the other.
        matrices: How many both change.
        cosine: <w_i delta_W_i, w_j delta_W_j> summed over matrices, over the product of the norms.
        interaction: 2 |sum of inner products|: energy by which the sum differs from the sum of energies.
        phi_out: Mean overlap of the leading left directions (outputs).
        expected_out: Its expectation for random subspaces.
        above_out: Matrices in which it exceeds all simulated random subspaces.
        phi_in: The same of the right directions (inputs).
        expected_in: Its expectation.
        above_in: Matrices in which it exceeds all simulated ones.
    """

    first: int
    second: int
    matrices: int
    cosine: float
    interaction: float
    phi_out: float
    expected_out: float
    above_out: int
    phi_in: float
    expected_in: float
    above_in: int


@dataclass(frozen=True)
class Merge:
    """Several adapters of one base, merged: the forecast, and what was written and measured.

    Attributes:
        adapters: As they were named.
        weights: Of each.
        base: Their base.
        k: Leading vectors per matrix.
        epsilon: Cosine below which a vector counts.
        top: Leading directions of each update behind the overlaps.
        matrices: One entry per matrix that an adapter changes.
        pairs: Every two adapters.
        out: The folder of the merged adapter, if one was written.
        checkpoint: The folder of the merged full checkpoint, if one was written.
        reduction: Ranks and errors of the merged adapter, where it was made smaller.
        measured: Forgetting of every adapter and of the merge, where tasks were named.
        left_behind: What the adapters hold and the merge does not, and why.
        warnings: Sentences that a reader of the numbers has to know.
        versions: Versions of the software that computed it.
    """

    adapters: tuple[str, ...]
    weights: tuple[float, ...]
    base: str
    k: int
    epsilon: float
    top: int
    matrices: tuple[MergedMatrix, ...]
    pairs: tuple[MergedPair, ...]
    out: str | None = None
    checkpoint: str | None = None
    reduction: Reduction | None = None
    measured: tuple[MeasuredLoss, ...] = ()
    left_behind: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def counts(self) -> tuple[int, ...]:
        """Intruder dimensions of each adapter, over all matrices."""
        return tuple(sum(matrix.counts[place] for matrix in self.matrices) for place in range(len(self.adapters)))

    @property
    def count(self) -> int:
        """Intruder dimensions of the merge."""
        return sum(matrix.count for matrix in self.matrices)

    @property
    def new(self) -> int:
        """Those that no single adapter has."""
        return sum(matrix.new for matrix in self.matrices)

    @property
    def norm(self) -> float:
        """Norm of the merged update over all matrices."""
        return math.hypot(*(matrix.norm for matrix in self.matrices))

    @property
    def cancelled(self) -> float:
        """Share of the adapters' energies that cancels in the sum; negative where they reinforce each other."""
        total = sum(norm**2 for matrix in self.matrices for norm in matrix.norms)
        return 1.0 - self.norm**2 / total if total > 0 else 0.0

    @property
    def clear_up_to(self) -> float | None:
        """The largest scale up to which no new intruder was found in any matrix; None where it was not searched."""
        found = [matrix.clear_up_to for matrix in self.matrices if matrix.clear_up_to is not None]
        return min(found) if found else None

    @property
    def worst_pair(self) -> MergedPair | None:
        """The two adapters whose energies interact most."""
        return max(self.pairs, key=lambda pair: pair.interaction, default=None)

    def predicted(self, task: str) -> float | None:
        """Forgetting of the merge if the adapters did not interact: the weighted sum of the single ones."""
        single = {one.checkpoint: one.value for one in self.measured if one.task == task and one.what == "forgetting"}
        if not all(adapter in single for adapter in self.adapters):
            return None
        return sum(weight * single[name] for weight, name in zip(self.weights, self.adapters, strict=True))

    def rows(self) -> Iterator[dict[str, Any]]:
        """One flat row per matrix."""
        for matrix in self.matrices:
            yield {**asdict(matrix), "cancelled": matrix.cancelled}

    def to_dict(self) -> dict[str, Any]:
        """The stable JSON object: keys are added, never renamed."""
        tasks = dict.fromkeys(one.task for one in self.measured)
        return {
            "format": FORMAT,
            "adapters": list(self.adapters),
            "weights": list(self.weights),
            "base": self.base,
            "k": self.k,
            "epsilon": self.epsilon,
            "top": self.top,
            "counts": list(self.counts),
            "count": self.count,
            "new": self.new,
            "cancelled": self.cancelled,
            "clear_up_to": self.clear_up_to,
            "matrices": list(self.rows()),
            "pairs": [asdict(pair) for pair in self.pairs],
            "out": self.out,
            "checkpoint": self.checkpoint,
            "reduction": None if self.reduction is None else self.reduction.to_dict(),
            "measured": [asdict(one) for one in self.measured],
            "predicted": {task: self.predicted(task) for task in tasks},
            "left_behind": [asdict(one) for one in self.left_behind],
            "warnings": list(self.warnings),
            "versions": dict(self.versions),
        }

    def to_dataframe(self) -> "pd.DataFrame":
        """One row per matrix as a pandas table."""
        import pandas as pd

        return pd.DataFrame(list(self.rows()))

    def sentences(self) -> list[str]:
        """The forecast in words."""
        singles = ", ".join(map(str, self.counts))
        told = [
            f"{self.count} intruder dimensions in the merge ({singles} in the single adapters); {self.new} of them "
            f"resemble none of a single adapter (k = {self.k}, epsilon = {self.epsilon:g}, left).",
            _energy_words(self.cancelled),
        ]
        if self.clear_up_to is not None:
            first = [one.first_new_at for one in self.matrices if one.first_new_at is not None]
            end = f"the first appears at {min(first):.3g}" if first else "nor at any scale tried"
            told.append(f"No new intruder up to {self.clear_up_to:.3g} times the merged update; {end}.")
        pair = self.worst_pair
        if pair is not None:
            told.append(
                f"Most interaction: adapters {pair.first + 1} and {pair.second + 1} (cosine of the updates "
                f"{pair.cosine:+.3f}; overlap {pair.phi_out:.3f} out and {pair.phi_in:.3f} in, by chance "
                f"{pair.expected_out:.3f} and {pair.expected_in:.3f})."
            )
        return told

    def _repr_html_(self) -> str:
        """One row per matrix, for notebooks."""
        headings = ("matrix", "norm", "cancelled", "single intruders", "merged", "new", "clear up to")
        rows = [
            (
                one.name,
                f"{one.norm:.4g}",
                f"{100 * one.cancelled:+.1f} %",
                ", ".join(map(str, one.counts)),
                str(one.count),
                str(one.new),
                "–" if one.clear_up_to is None else f"{one.clear_up_to:.3g}",
            )
            for one in self.matrices
        ]
        return html_table("Forecast of the merge", headings, rows, (*self.sentences(), *self.warnings))


def _energy_words(cancelled: float) -> str:
    share = f"{100 * abs(cancelled):.3g} %"
    if cancelled >= 0:
        return f"{share} of the adapters' squared norms cancel in the sum."
    return f"The squared norm of the sum is {share} above that of its parts: they reinforce each other."
