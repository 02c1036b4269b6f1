"""A mitigation plan carried out on one matrix: from verdicts to the factors that are written, and the record of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from spectra.engine.storage import as_operator
from spectra.errors import AdapterError, SpectrumError
from spectra.interventions.adapter_factors import ExchangedFactors, factor_dtype, module_of
from spectra.interventions.controls import norm_matched_shrink
from spectra.interventions.direction_selection import selected_directions
from spectra.interventions.directions import frobenius, leading_triplets, require_scale, scaled_directions, truncated
from spectra.interventions.outcome import MitigatedMatrix
from spectra.linalg.operators import LowRankUpdate
from spectra.linalg.precision import full_precision
from spectra.records.matrix_scan import MatrixScan
from spectra.weights import MatrixPair
from spectra.weights.methods.changes import LoraChange

# The scan and the mitigation find the same vectors by different routes; their singular values agree far better.
SINGULAR_VALUE_TOLERANCE = 1e-2


@dataclass(frozen=True)
class MitigationPlan:
    """How the intruders of each matrix are edited; see `mitigate`."""

    lam: float
    select: str
    share: float
    rank: str | int
    shrink: bool

    def __post_init__(self) -> None:
        """Refuse what has no meaning, before anything is read.

        Raises:
            SpectrumError: With the value.
        """
        require_scale(self.lam)
        selected_directions((), self.select, share=self.share)
        if self.rank not in ("exact", "same") and (type(self.rank) is not int or self.rank < 1):
            raise SpectrumError(f"The rank is {self.rank!r}. Give 'exact', 'same' or a positive number.")
        if self.shrink and self.rank != "exact":
            raise SpectrumError(f"A shrunk update keeps its rank, and rank is {self.rank!r}. Leave the rank out.")


@full_precision()
def mitigated_factors(
    matrix: MatrixPair, spectrum: MatrixScan, plan: MitigationPlan, device: str
) -> tuple[ExchangedFactors, MitigatedMatrix]:
    """The new factors of one matrix, and what they mean.

    Args:
        matrix: A matrix that an adapter changes by factors of its own.
        spectrum: Its verdicts; at least one vector is an intruder.
        plan: What is done.
        device: torch device of the computation.

    Raises:
        AdapterError: If the adapter's scaling is 0.
        SpectrumError: If the vectors found here are not those that the scan judged.
    """
    change = matrix.change
    if not isinstance(change, LoraChange):
        raise TypeError("only a LoRA change has factors to exchange")
    chosen = selected_directions(spectrum.side_vectors("left"), plan.select, share=plan.share)
    dtype = factor_dtype(change)
    update = change.low_rank(matrix.W0, dtype, device)
    if update.scaling == 0:
        raise AdapterError(
            f"The scaling of '{matrix.name}' is 0: the adapter changes nothing there. Leave it out with --exclude."
        )
    W0 = as_operator(matrix.W0, dtype=dtype, device=device)
    triplets = leading_triplets(W0, update, max(chosen) + 1)
    require_same(spectrum, [float(triplets.S[index]) for index in chosen], chosen)
    edit = scaled_directions(triplets, chosen, plan.lam)
    new, lost, factor = _new_factors(update, edit, plan)
    record = MitigatedMatrix(
        name=spectrum.name,
        module=module_of(change),
        directions=chosen,
        singular_values=tuple(float(triplets.S[index]) for index in chosen),
        rank_before=update.rank,
        rank_after=new.rank,
        update_norm=frobenius(update),
        edit_norm=frobenius(edit),
        written_norm=frobenius(new),
        lost_energy=lost,
        shrink_factor=factor,
    )
    return ExchangedFactors(change, new), record


def _new_factors(
    update: LowRankUpdate, edit: LowRankUpdate, plan: MitigationPlan
) -> tuple[LowRankUpdate, float, float | None]:
    """What is written in place of the update, the energy that truncation loses, and the shrink factor if any."""
    if plan.shrink:
        shrunk = norm_matched_shrink(update, edit)
        factor = 1 + shrunk.scaling / update.scaling
        return replace(update, B=factor * update.B), 0.0, factor
    edited = update if plan.lam == 1 else update.plus(edit)  # lambda = 1 changes nothing and needs no room
    rank = {"exact": edited.rank, "same": update.rank}.get(str(plan.rank), plan.rank)
    if edited.rank <= int(rank):
        return edited, 0.0, None
    return *truncated(edited, int(rank)), None


def require_same(spectrum: MatrixScan, values: Sequence[float], chosen: Sequence[int]) -> None:
    """Refuse to treat vectors other than the judged ones.

    Raises:
        SpectrumError: If the singular values disagree.
    """
    sigma = {vector.index: vector.singular_value for vector in spectrum.side_vectors("left")}
    for index, value in zip(chosen, values, strict=True):
        if abs(value - sigma[index]) > SINGULAR_VALUE_TOLERANCE * sigma[index]:
            raise SpectrumError(
                f"Vector {index} of '{spectrum.name}' has the singular value {value:g}, and {sigma[index]:g} in the "
                "scan. Report this matrix."
            )
