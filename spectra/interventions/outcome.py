"""What a mitigation did: plain numbers, one record per treated matrix and one for the adapter."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from spectra.records.verdicts import Skipped


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
        return {
            **asdict(self),
            "versions": dict(self.versions),
            "directions": self.directions,
            "largest_lost_energy": self.largest_lost_energy,
        }
