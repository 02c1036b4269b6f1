"""The record of an adapter that was made from another checkpoint: ranks, and what they leave out, matrix by matrix."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from spectra.records.verdicts import Skipped, html_table

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "spectra-reduction-1"


@dataclass(frozen=True)
class ReducedMatrix:
    """One matrix: what was kept of its update delta_W, and what any other matrix of that rank would leave out.

    Attributes:
        name: Canonical name.
        layer: Index of the block, or None outside the blocks.
        role: Last meaningful part of the name.
        shape: (d_out, d_in).
        rank_before: Rank of the factors it was made from; None for a dense update.
        rank: Columns of B; 0 where the update is zero and nothing was written.
        norm: ||delta_W||_F.
        error: ||delta_W - B A||_F of the factors as written, measured.
        least_error: No matrix of that rank is closer to delta_W than this.
        spectral_error: Upper bound of ||delta_W - B A||_2.
        singular_values: The leading singular values of delta_W that were found.
        method: "svd" (all singular values are known), "krylov" (the leading ones, bracketed) or "factors" (exact).
        count_before: Intruder dimensions of the original; None where they were not counted.
        count_after: Those of W0 + B A.
    """

    name: str
    layer: int | None
    role: str
    shape: tuple[int, int]
    rank_before: int | None
    rank: int
    norm: float
    error: float
    least_error: float
    spectral_error: float
    singular_values: tuple[float, ...]
    method: str
    count_before: int | None = None
    count_after: int | None = None

    @property
    def parameters(self) -> int:
        """Numbers in the factors."""
        return self.rank * sum(self.shape)

    @property
    def relative_error(self) -> float:
        """error / norm; 0 for an update of zero."""
        return self.error / self.norm if self.norm > 0 else 0.0

    @property
    def energy_kept(self) -> float:
        """1 - (error / norm)^2: the share of ||delta_W||_F^2 that the factors hold."""
        return 1.0 - self.relative_error**2


@dataclass(frozen=True)
class MeasuredLoss:
    """What one checkpoint scores on one task.

    Attributes:
        checkpoint: Which one.
        task: Which task.
        what: "score" on the task that was tuned on, or "forgetting" on a held-out one.
        value: The score, or the loss of the tuned minus that of the base.
        low: Lower end of its interval, where it has one.
        high: Upper end.
        unit: Name of the score, or unit of the loss.
    """

    checkpoint: str
    task: str
    what: str
    value: float
    low: float | None = None
    high: float | None = None
    unit: str = ""


@dataclass(frozen=True)
class Reduction:
    """An adapter that was extracted from a checkpoint, or made smaller.

    Attributes:
        operation: "extract", "resize" or "merge".
        source: What it was made from.
        base: The pre-trained checkpoint; None where it was neither named nor needed.
        out: The folder that was written.
        rule: How the ranks were chosen, in words.
        k: Leading vectors per matrix, of the intruder counts.
        epsilon: Cosine below which a vector counts.
        matrices: One entry per matrix.
        saved_whole: Modules that were saved as they are.
        left_behind: What the source changed and the adapter does not hold, and why.
        measured: Scores and forgetting, where tasks were named.
        warnings: Sentences that a reader of the numbers has to know.
        versions: Versions of the software that computed it.
    """

    operation: str
    source: str
    base: str | None
    out: str
    rule: str
    k: int
    epsilon: float
    matrices: tuple[ReducedMatrix, ...]
    saved_whole: tuple[str, ...] = ()
    left_behind: tuple[Skipped, ...] = ()
    measured: tuple[MeasuredLoss, ...] = ()
    warnings: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        """Numbers in all factors."""
        return sum(matrix.parameters for matrix in self.matrices)

    @property
    def norm(self) -> float:
        """Norm of the whole update: the root of the sum of squares over matrices."""
        return math.hypot(*(matrix.norm for matrix in self.matrices))

    @property
    def error(self) -> float:
        """Norm of what the factors leave out, over all matrices."""
        return math.hypot(*(matrix.error for matrix in self.matrices))

    @property
    def least_error(self) -> float:
        """No factors of the same ranks leave out less than this."""
        return math.hypot(*(matrix.least_error for matrix in self.matrices))

    @property
    def energy_kept(self) -> float:
        """Share of the squared norm of the whole update that the factors hold."""
        return 1.0 - (self.error / self.norm) ** 2 if self.norm > 0 else 1.0

    @property
    def count_before(self) -> int | None:
        """Intruder dimensions of the original, in all matrices; None where they were not counted."""
        counts = [matrix.count_before for matrix in self.matrices if matrix.count_before is not None]
        return sum(counts) if counts else None

    @property
    def count_after(self) -> int | None:
        """Intruder dimensions of what was written."""
        counts = [matrix.count_after for matrix in self.matrices if matrix.count_after is not None]
        return sum(counts) if counts else None

    def rows(self) -> Iterator[dict[str, Any]]:
        """One flat row per matrix."""
        for matrix in self.matrices:
            yield {
                **asdict(matrix),
                "parameters": matrix.parameters,
                "relative_error": matrix.relative_error,
                "energy_kept": matrix.energy_kept,
            }

    def to_dict(self) -> dict[str, Any]:
        """The stable JSON object: keys are added, never renamed."""
        return {
            "format": FORMAT,
            "operation": self.operation,
            "source": self.source,
            "base": self.base,
            "out": self.out,
            "rule": self.rule,
            "k": self.k,
            "epsilon": self.epsilon,
            "parameters": self.parameters,
            "norm": self.norm,
            "error": self.error,
            "least_error": self.least_error,
            "energy_kept": self.energy_kept,
            "count_before": self.count_before,
            "count_after": self.count_after,
            "matrices": list(self.rows()),
            "saved_whole": list(self.saved_whole),
            "left_behind": [asdict(one) for one in self.left_behind],
            "measured": [asdict(one) for one in self.measured],
            "warnings": list(self.warnings),
            "versions": dict(self.versions),
        }

    def to_dataframe(self) -> "pd.DataFrame":
        """One row per matrix as a pandas table."""
        import pandas as pd

        return pd.DataFrame(list(self.rows()))

    def sentences(self) -> list[str]:
        """What was written and what it leaves out, in words."""
        written = [matrix for matrix in self.matrices if matrix.rank]
        ranks = sorted({matrix.rank for matrix in written})
        spread = (
            f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}" if ranks else "no factors"
        )
        share = self.error / self.norm if self.norm > 0 else 0.0
        least = self.least_error / self.norm if self.norm > 0 else 0.0
        told = [
            f"{self.out}: {len(written)} matrices at {spread}, {self.parameters:,} numbers ({self.rule}).",
            f"Left out: {share:.4g} of the update's norm; no factors of these ranks leave out less than {least:.4g}. "
            f"Energy kept: {100 * self.energy_kept:.4g} %.",
        ]
        if self.count_before is not None and self.count_after is not None:
            told.append(
                f"{self.count_before} intruder dimensions in the original, {self.count_after} in what was written "
                f"(k = {self.k}, epsilon = {self.epsilon:g}, left)."
            )
        return told

    def _repr_html_(self) -> str:
        """One row per matrix, for notebooks."""
        headings = ("matrix", "rank", "norm", "error", "least possible", "energy kept", "intruders")
        rows = [
            (
                one.name,
                str(one.rank),
                f"{one.norm:.4g}",
                f"{one.error:.4g}",
                f"{one.least_error:.4g}",
                f"{100 * one.energy_kept:.2f} %",
                "–" if one.count_before is None else f"{one.count_before} → {one.count_after}",
            )
            for one in self.matrices
        ]
        return html_table(self.out, headings, rows, (*self.sentences(), *self.warnings))
