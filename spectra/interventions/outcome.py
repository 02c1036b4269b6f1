"""What a mitigation did: plain numbers, one record per treated matrix and one for the adapter."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from spectra.interventions.intervention_run import InterventionRow
from spectra.interventions.lambda_selection import Choice
from spectra.records.verdicts import Skipped, html_table

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class MitigatedMatrix:
    """One matrix whose directions were treated.

    Attributes:
        name: Canonical name.
        module: The module under the adapter's own name.
        directions: Positions of the treated vectors among the leading ones of W_tuned, from 0.
        singular_values: Theirs, before the mitigation.
        rank_before: Columns of B before.
        rank_after: Columns of B as written.
        update_norm: ||delta_W||_F before.
        edit_norm: ||(lambda - 1) sum_j u_j sigma_j v_j^H||_F, the size of the intervention.
        written_norm: ||delta_W||_F as written.
        lost_energy: Share of the edited update's energy that truncation to the written rank dropped.
        shrink_factor: c of the norm-matched shrink delta_W -> c delta_W, where that was written instead.
    """

    name: str
    module: str
    directions: tuple[int, ...]
    singular_values: tuple[float, ...]
    rank_before: int
    rank_after: int
    update_norm: float
    edit_norm: float
    written_norm: float
    lost_energy: float
    shrink_factor: float | None = None


@dataclass(frozen=True)
class Mitigation:
    """A mitigated adapter beside the one it was made from.

    Attributes:
        adapter: The adapter as it was named.
        base: Its base as it was named.
        out: Where the result lies.
        lam: lambda: the factor on the treated singular values.
        select: "top", "all" or "energy".
        rank: "exact", "same" or the number asked for.
        shrink: True when the norm-matched shrink was written instead.
        k: Leading vectors looked at per matrix.
        epsilon: Cosine below which a vector counts.
        scanned: Matrices that were scanned, before and after.
        count_before: Intruder dimensions among them before.
        count_after: Intruder dimensions among them after: removing one can expose another.
        matrices: The treated ones.
        skipped: What was not looked at, and why.
        warnings: Sentences that a reader has to know.
        versions: Versions of the software.
        choice: How lambda was chosen; None where it was given.
        curve: The points on validation splits behind the choice.
    """

    adapter: str
    base: str
    out: str
    lam: float
    select: str
    rank: str | int
    shrink: bool
    k: int
    epsilon: float
    scanned: int
    count_before: int
    count_after: int
    matrices: tuple[MitigatedMatrix, ...]
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    choice: Choice | None = None
    curve: tuple[InterventionRow, ...] = ()

    @property
    def directions(self) -> int:
        """Number of treated directions."""
        return sum(len(matrix.directions) for matrix in self.matrices)

    @property
    def largest_lost_energy(self) -> float:
        """The largest share of energy that truncation dropped in any matrix."""
        return max((matrix.lost_energy for matrix in self.matrices), default=0.0)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of `spectra mitigate`."""
        own = asdict(self)
        chosen = {name: own.pop(name) for name in ("choice", "curve")}
        return {
            **own,
            "directions": self.directions,
            "largest_lost_energy": self.largest_lost_energy,
            **(chosen if self.choice is not None else {}),
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """One flat row per treated matrix."""
        for matrix in self.matrices:
            yield {"adapter": self.adapter, "lambda": self.lam, **asdict(matrix)}

    def to_dataframe(self) -> "pd.DataFrame":
        """One row per treated matrix as a pandas table."""
        import pandas as pd

        return pd.DataFrame(list(self.rows()))

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was done and what the second scan says."""
        if not self.matrices:
            return (f"No intruder dimension in {self.scanned} matrices: '{self.out}' equals '{self.adapter}'.",)
        by, matrices = f"by lambda = {self.lam:g}", len(self.matrices)
        done = f"{self.directions} directions of {matrices} matrices scaled {by}"
        if self.shrink:
            done = f"{matrices} updates shrunk to the norm that scaling {self.directions} directions {by} leaves"
        told = [
            f"{done}: '{self.out}'.",
            f"{self.count_before} intruder dimensions before, {self.count_after} after "
            f"({self.scanned} matrices, k = {self.k}, epsilon = {self.epsilon:g}, left).",
        ]
        if self.largest_lost_energy > 0:
            told.append(f"Truncation lost up to {100 * self.largest_lost_energy:.2g} % of an update's energy.")
        return tuple(told)

    def _repr_html_(self) -> str:
        """The treated matrices, those that lose most first, for notebooks."""
        order = sorted(self.matrices, key=lambda matrix: -matrix.edit_norm)
        rows = [
            (
                matrix.name,
                str(len(matrix.directions)),
                f"{matrix.rank_before} -> {matrix.rank_after}",
                f"{matrix.update_norm:.4g}",
                f"{matrix.written_norm:.4g}",
                f"{100 * matrix.lost_energy:.2g} %",
            )
            for matrix in order
        ]
        headings = ("matrix", "vectors", "rank", "norm before", "norm after", "lost energy")
        reason = () if self.choice is None else (self.choice.reason,)
        return html_table(f"{self.adapter} -> {self.out}", headings, rows, (*reason, *self.sentences, *self.warnings))
