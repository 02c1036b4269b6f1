"""The frozen records that cross rooms: what a scan says of a vector, a matrix, a checkpoint.

They hold plain numbers and strings only, no tensors, so that the report and the command line can read them
without importing torch. `IntruderScan.to_dict` is the JSON of `spectra intruders`: keys are added, never renamed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, Literal

from spectra.records.coverage import Coverage

if TYPE_CHECKING:
    import pandas as pd

Side = Literal["left", "right", "both"]
OneSide = Literal["left", "right"]
Decision = Literal["leading vector", "certificate", "full factorisation"]

SHOWN_IN_NOTEBOOKS = 10


@dataclass(frozen=True)
class VectorVerdict:
    """What the definition says of one tuned singular vector.

    Attributes:
        index: Position by decreasing singular value, from 0.
        singular_value: The tuned singular value sigma_j.
        max_cosine: Largest |cos| to a pre-trained singular vector that was found: among all of them when
            `decided_by` is "full factorisation", and the lower bound otherwise.
        is_intruder: True when max|cos| < epsilon over all pre-trained vectors.
        lower: Proven lower bound of max|cos|.
        upper: Proven upper bound of max|cos|; `upper < e` is the verdict at every epsilon e that was asked for.
        decided_by: How the verdict was reached.
        ill_conditioned: True when the neighbouring singular value is too close for a single vector to be meaningful.
        side: Whether the vector is a left (d_out) or right (d_in) singular vector.
    """

    index: int
    singular_value: float
    max_cosine: float
    is_intruder: bool
    lower: float
    upper: float
    decided_by: Decision
    ill_conditioned: bool = False
    side: OneSide = "left"


@dataclass(frozen=True)
class UpdateNorms:
    """Size and shape of delta_W.

    Attributes:
        frobenius: ||delta_W||_F.
        spectral: ||delta_W||_2, the largest singular value.
        relative: ||delta_W||_F / ||W0||_F.
        effective_rank: exp(entropy of S / sum S) (Roy & Vetterli 2007); 0 for a zero update.
        stable_rank: ||delta_W||_F^2 / ||delta_W||_2^2; 0 for a zero update.
    """

    frobenius: float
    spectral: float
    relative: float
    effective_rank: float
    stable_rank: float


@dataclass(frozen=True)
class MatrixSpectrum:
    """The verdicts on one weight matrix.

    Attributes:
        name: Canonical name of the matrix.
        layer: Index of the block, or None outside the blocks.
        role: Last meaningful part of the name, such as "q_proj" or "intermediate.dense".
        block: "attention", "mlp", "expert" or "other".
        shape: (d_out, d_in).
        method: The method that decided: "exact", "certified" or "cached-basis".
        vectors: The leading k vectors, left before right when both sides were asked for.
        seconds: Time spent on this matrix.
        update: Norms of delta_W, when they were asked for.
        update_values: Leading singular values of delta_W, when its norms were asked for.
    """

    name: str
    layer: int | None
    role: str
    block: str
    shape: tuple[int, int]
    method: str
    vectors: tuple[VectorVerdict, ...]
    seconds: float = 0.0
    update: UpdateNorms | None = None
    update_values: tuple[float, ...] = ()

    def side_vectors(self, side: OneSide) -> tuple[VectorVerdict, ...]:
        """The verdicts of one side, by decreasing singular value."""
        return tuple(vector for vector in self.vectors if vector.side == side)

    def count_at(self, epsilon: float, side: OneSide) -> int:
        """Number of intruders of one side at an epsilon that the scan was asked to decide."""
        return sum(vector.upper < epsilon for vector in self.side_vectors(side))

    @property
    def primary_side(self) -> OneSide:
        """The side that `count` speaks of: left, as in the paper, unless only right vectors were scanned."""
        return "left" if any(vector.side == "left" for vector in self.vectors) else "right"

    @property
    def count(self) -> int:
        """Number of intruders at the scan's epsilon, on the primary side."""
        return sum(vector.is_intruder for vector in self.side_vectors(self.primary_side))

    @property
    def energy_share(self) -> float:
        """Share of the leading k vectors' energy that intruders hold: sum_I S_j^2 / sum_{j<=k} S_j^2."""
        vectors = self.side_vectors(self.primary_side)
        total = sum(vector.singular_value**2 for vector in vectors)
        intruding = sum(vector.singular_value**2 for vector in vectors if vector.is_intruder)
        return intruding / total if total > 0 else 0.0

    def _repr_html_(self) -> str:
        """One row per leading vector, for notebooks."""
        caption = f"{self.name}: {self.count} of {len(self.side_vectors(self.primary_side))} leading vectors intrude"
        headings = ("j", "side", "singular value", "max |cos|", "intruder", "decided by")
        rows = [
            (
                str(vector.index),
                vector.side,
                f"{vector.singular_value:.4g}",
                _bracket(vector),
                ("yes" if vector.is_intruder else "no") + (" (ill-conditioned)" if vector.ill_conditioned else ""),
                vector.decided_by,
            )
            for vector in self.vectors
        ]
        return html_table(caption, headings, rows)


@dataclass(frozen=True)
class Skipped:
    """A matrix that was not compared, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class IntruderScan:
    """All verdicts on one checkpoint against its base.

    Attributes:
        checkpoint: The tuned checkpoint as the user named it.
        base: The base it was compared with.
        k: Leading vectors looked at per matrix.
        epsilon: Cosine below which a vector counts.
        side: Which singular vectors were scanned.
        method: The method asked for ("auto" may use several; each matrix says which).
        matrices: One entry per compared matrix, in checkpoint order.
        skipped: What was not compared.
        warnings: Sentences that a reader of the counts has to know.
        epsilons: Every epsilon that the scan was asked to decide, `epsilon` included.
        versions: Versions of the software that computed it.
        kind: What the checkpoint is: "full", "lora", "dora", ...
        coverage: What became of the matrices of the blocks; None in results of before it was recorded.
    """

    checkpoint: str
    base: str
    k: int
    epsilon: float
    side: Side
    method: str
    matrices: tuple[MatrixSpectrum, ...]
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()
    epsilons: tuple[float, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""
    coverage: Coverage | None = None

    @property
    def count(self) -> int:
        """Number of intruder dimensions: the sum over matrices, as in the paper."""
        return sum(matrix.count for matrix in self.matrices)

    def to_dict(self) -> dict[str, Any]:
        """The stable JSON object of `spectra intruders`."""
        return {
            "checkpoint": self.checkpoint,
            "base": self.base,
            "kind": self.kind,
            "coverage": self.coverage.to_dict() if self.coverage else None,
            "k": self.k,
            "epsilon": self.epsilon,
            "side": self.side,
            "method": self.method,
            "count": self.count,
            "counts_by_epsilon": [
                {"epsilon": epsilon, "count": sum(m.count_at(epsilon, m.primary_side) for m in self.matrices)}
                for epsilon in self.epsilons
            ],
            "matrices": [
                {
                    "name": matrix.name,
                    "shape": list(matrix.shape),
                    "count": matrix.count,
                    "layer": matrix.layer,
                    "role": matrix.role,
                    "block": matrix.block,
                    "method": matrix.method,
                    "energy_share": matrix.energy_share,
                    "seconds": matrix.seconds,
                    "update": asdict(matrix.update) if matrix.update else None,
                    "vectors": [asdict(vector) for vector in matrix.vectors],
                }
                for matrix in self.matrices
            ],
            "skipped": [asdict(skipped) for skipped in self.skipped],
            "warnings": list(self.warnings),
            "versions": dict(self.versions),
        }

    def _repr_html_(self) -> str:
        """The matrices with the most intruders, for notebooks; `to_dataframe` has all."""
        slots = sum(len(matrix.side_vectors(matrix.primary_side)) for matrix in self.matrices)
        caption = (
            f"{self.checkpoint} against {self.base}: {self.count} intruder dimensions among {slots} leading vectors of "
            f"{len(self.matrices)} matrices (k = {self.k}, epsilon = {self.epsilon:g}, {self.side})"
        )
        order = sorted(self.matrices, key=lambda matrix: (-matrix.count, -matrix.energy_share))
        rows = [
            (
                matrix.name,
                f"{matrix.shape[0]}x{matrix.shape[1]}",
                str(matrix.count),
                f"{100 * matrix.energy_share:.1f} %",
                f"{matrix.update.relative:.2e}" if matrix.update else "–",
            )
            for matrix in order[:SHOWN_IN_NOTEBOOKS]
        ]
        notes = list(self.warnings)
        if len(order) > len(rows):
            notes.insert(0, f"{len(order) - len(rows)} more matrices: see to_dataframe().")
        if self.skipped:
            notes.insert(0, f"{len(self.skipped)} not compared: see skipped.")
        headings = ("matrix", "shape", "count", "energy share", "relative norm of the update")
        return html_table(caption, headings, rows, notes)

    def matrix_rows(self) -> Iterable[dict[str, Any]]:
        """One flat row per matrix: the tidy table behind the reports."""
        for matrix in self.matrices:
            update = asdict(matrix.update) if matrix.update else {}
            yield {
                "name": matrix.name,
                "layer": matrix.layer,
                "role": matrix.role,
                "block": matrix.block,
                "d_out": matrix.shape[0],
                "d_in": matrix.shape[1],
                "count": matrix.count,
                "energy_share": matrix.energy_share,
                "ill_conditioned": sum(vector.ill_conditioned for vector in matrix.vectors),
                "method": matrix.method,
                "seconds": matrix.seconds,
                **{f"update_{key}": value for key, value in update.items()},
            }

    def vector_rows(self) -> Iterable[dict[str, Any]]:
        """One flat row per matrix and vector."""
        for matrix in self.matrices:
            for vector in matrix.vectors:
                yield {"name": matrix.name, "layer": matrix.layer, "role": matrix.role, **asdict(vector)}

    def to_dataframe(self, rows: Literal["matrices", "vectors"] = "matrices") -> "pd.DataFrame":
        """The scan as a pandas table, one row per matrix or one per vector."""
        import pandas as pd

        return pd.DataFrame(list(self.matrix_rows() if rows == "matrices" else self.vector_rows()))


def totals(matrices: Sequence[MatrixSpectrum]) -> dict[str, Any]:
    """A whole checkpoint in the columns that tables of trials and of training steps share.

    Counts and squared norms are summed over matrices, the energy share and the effective rank averaged. Norms are
    absent where no matrix has any.
    """
    updates = [matrix.update for matrix in matrices if matrix.update]
    whole: dict[str, Any] = {
        "count": sum(matrix.count for matrix in matrices),
        "matrices": len(matrices),
        "energy_share": sum(matrix.energy_share for matrix in matrices) / max(1, len(matrices)),
    }
    if not updates:
        return whole
    frobenius = sum(update.frobenius**2 for update in updates) ** 0.5
    base = sum((update.frobenius / update.relative) ** 2 for update in updates if update.relative > 0) ** 0.5
    return whole | {
        "update_frobenius": frobenius,
        "update_relative": frobenius / base if base > 0 else 0.0,
        "effective_rank": sum(update.effective_rank for update in updates) / len(updates),
    }


def _bracket(vector: VectorVerdict) -> str:
    """The largest cosine: one figure where it is known to three digits, else the proven bracket."""
    low, high = f"{vector.lower:.3f}", f"{vector.upper:.3f}"
    return low if low == high else f"{low} to {high}"


def html_table(caption: str, headings: Sequence[str], rows: Iterable[Sequence[str]], notes: Sequence[str] = ()) -> str:
    """A small table of escaped text, without style or script."""
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    below = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}"
    )
