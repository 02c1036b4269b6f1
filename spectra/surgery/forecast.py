"""What a merge does to the spectra, before it is made: intruders, overlap, energy that cancels, critical scale."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from spectra.engine.bounds import CosineBounds
from spectra.engine.cache import FactorCache
from spectra.engine.tuned import Tuned
from spectra.linalg.operators import LowRankUpdate
from spectra.linalg.precision import full_precision
from spectra.linalg.svd import low_rank_svd
from spectra.metrics.random_overlap import expected_overlap, random_overlaps
from spectra.metrics.ranks import default_rcond
from spectra.metrics.subspaces import phi
from spectra.records.merge import MergedMatrix, MergedPair
from spectra.scanning.facts import BaseFacts, base_factors, cosine_bounds
from spectra.scanning.settings import ScanSettings
from spectra.weights import MatrixPair

# Scales of the merged update that are tried together, and halvings of the step that holds the first new intruder.
SCALES = tuple(0.1 * 1.28**step for step in range(16))
HALVINGS = 4


@dataclass(frozen=True, eq=False)
class Part:
    """The update of one matrix by one adapter.

    Attributes:
        adapter: Position of the adapter, from 0.
        weight: Its weight in the sum.
        pair: The matrix and its change.
        update: delta_W of the adapter, without its weight.
    """

    adapter: int
    weight: float
    pair: MatrixPair
    update: LowRankUpdate

    @property
    def weighted(self) -> LowRankUpdate:
        """w delta_W."""
        return LowRankUpdate(self.update.B, self.update.A, self.weight * self.update.scaling)


@dataclass(frozen=True, eq=False)
class Interaction:
    """What two adapters do to one matrix together: an inner product, and overlaps with their chance."""

    first: int
    second: int
    inner: float
    out: tuple[float, float, bool] | None
    into: tuple[float, float, bool] | None


def stacked(parts: Sequence[Part]) -> LowRankUpdate:
    """sum_i w_i delta_W_i as one product of scaling 1:  [w_1 s_1 B_1, w_2 s_2 B_2, ...] @ [A_1; A_2; ...]."""
    B = torch.cat([part.weight * part.update.scaling * part.update.B for part in parts], dim=1)
    return LowRankUpdate(B, torch.cat([part.update.A for part in parts]))


def inner_product(one: LowRankUpdate, other: LowRankUpdate) -> float:
    """<delta_1, delta_2> from the factors, in float64: trace(A_1^T B_1^T B_2 A_2)."""
    left = one.B.double().mH @ other.B.double()
    right = one.A.double() @ other.A.double().mH
    return one.scaling * other.scaling * float((left * right).sum())


@full_precision()
def forecast_matrix(
    parts: Sequence[Part],
    adapters: int,
    settings: ScanSettings,
    *,
    top: int,
    draws: int,
    critical: bool,
    cache: FactorCache | None,
) -> tuple[MergedMatrix, list[Interaction]]:
    """The forecast of one matrix, and of every two of its updates.

    Args:
        parts: The adapters that change it.
        adapters: How many adapters there are.
        settings: The question.
        top: Leading directions of each update that are compared.
        draws: Simulated pairs of random subspaces behind each overlap.
        critical: Search the scale at which the first new intruder appears.
        cache: Where factors of W0 are kept.
    """
    W0, name = parts[0].pair.W0, parts[0].pair.name
    base = BaseFacts(base_factors(W0, settings, cache), settings)
    whole = stacked(parts)
    *single, merged = cosine_bounds(base, [Tuned(update=part.update) for part in parts] + [Tuned(update=whole)])
    known = torch.cat([bounds.U()[:, _intruders(bounds, settings).to(bounds.U().device)] for bounds in single], dim=1)
    counts = [0] * adapters
    for part, bounds in zip(parts, single, strict=True):
        counts[part.adapter] = int(_intruders(bounds, settings).sum())
    gram = [[inner_product(one.weighted, other.weighted) for other in parts] for one in parts]
    norms = [0.0] * adapters
    for place, part in enumerate(parts):
        norms[part.adapter] = max(gram[place][place], 0.0) ** 0.5
    norm = max(sum(map(sum, gram)), 0.0) ** 0.5
    clear, first = _critical(base, whole, known, settings) if critical and norm > 0 else (None, None)
    record = MergedMatrix(
        name=str(name),
        layer=name.layer,
        role=name.role,
        shape=(W0.shape[0], W0.shape[1]),
        rank=whole.rank,
        norms=tuple(norms),
        norm=norm,
        relative=norm / base.frobenius if base.frobenius > 0 else float("inf"),
        counts=tuple(counts),
        count=int(_intruders(merged, settings).sum()),
        new=int(_new(merged, known, settings).sum()),
        clear_up_to=clear,
        first_new_at=first,
    )
    return record, list(_interactions(parts, gram, top, draws, settings.seed))


def _intruders(bounds: CosineBounds, settings: ScanSettings) -> Bool[Tensor, " k"]:
    """The verdicts of every scan."""
    return (bounds.upper if bounds.cosines is None else bounds.max_cosines) < settings.epsilon


def _new(bounds: CosineBounds, known: Float[Tensor, "d m"], settings: ScanSettings) -> Bool[Tensor, " k"]:
    """Intruders that resemble no intruder of a single adapter."""
    found = _intruders(bounds, settings)
    if not known.shape[1]:
        return found
    cosines = (known.mH @ bounds.U()).abs().max(dim=0).values
    return found & (cosines < settings.epsilon).to(found.device)


def _critical(
    base: BaseFacts, whole: LowRankUpdate, known: Float[Tensor, "d m"], settings: ScanSettings
) -> tuple[float, float | None]:
    """Between which scales of the merged update the first new intruder appears, among those tried."""

    def has_new(scales: Sequence[float]) -> list[bool]:
        tuned = [Tuned(update=LowRankUpdate(whole.B, whole.A, scale * whole.scaling)) for scale in scales]
        return [bool(_new(bounds, known, settings).any()) for bounds in cosine_bounds(base, tuned)]

    tried = has_new(SCALES)
    if not any(tried):
        return SCALES[-1], None
    place = tried.index(True)
    low, high = SCALES[place - 1] if place else 0.0, SCALES[place]
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        [found] = has_new([middle])
        low, high = (low, middle) if found else (middle, high)
    return low, high


def _interactions(
    parts: Sequence[Part], gram: Sequence[Sequence[float]], top: int, draws: int, seed: int
) -> Iterator[Interaction]:
    """Every two updates of one matrix; an update of zero has no directions."""
    directions = [_directions(part.update, top) for part in parts]
    for i, j in combinations(range(len(parts)), 2):
        overlaps = [
            None if one is None or other is None else _overlap(one, other, draws, seed)
            for one, other in zip(directions[i], directions[j], strict=True)
        ]
        yield Interaction(parts[i].adapter, parts[j].adapter, gram[i][j], overlaps[0], overlaps[1])


def _directions(update: LowRankUpdate, top: int) -> tuple[Tensor | None, Tensor | None]:
    """The leading left and right singular vectors that are not rounding."""
    svd = low_rank_svd(update.B, update.A, update.scaling)
    if not svd.S.shape[0] or float(svd.S[0]) <= 0:
        return None, None
    rank = int((default_rcond(update.shape, svd.S.dtype) * svd.S[0] < svd.S).sum())
    kept = svd.leading(min(top, rank))
    return kept.U, kept.Vh.mH


def _overlap(one: Tensor, other: Tensor, draws: int, seed: int) -> tuple[float, float, bool]:
    """phi, its expectation by chance, and whether it exceeds all simulated random subspaces."""
    d, i, j = one.shape[0], one.shape[1], other.shape[1]
    found = phi(one, other)
    return found, expected_overlap(d, i, j), found > random_overlaps(d, i, j, draws, seed)[-1]


def pairs_of(interactions: Sequence[Interaction], matrices: Sequence[MergedMatrix]) -> tuple[MergedPair, ...]:
    """Every two adapters, summed over the matrices that both change."""
    groups: dict[tuple[int, int], list[Interaction]] = {}
    for one in interactions:
        groups.setdefault((one.first, one.second), []).append(one)
    sizes = [sum(matrix.norms[place] ** 2 for matrix in matrices) ** 0.5 for place in range(len(matrices[0].norms))]
    found = []
    for (first, second), group in sorted(groups.items()):
        inner = sum(one.inner for one in group)
        product = sizes[first] * sizes[second]
        out, into = (_mean([getattr(one, side) for one in group]) for side in ("out", "into"))
        cosine = inner / product if product > 0 else 0.0
        found.append(MergedPair(first, second, len(group), cosine, 2 * abs(inner), *out, *into))
    return tuple(found)


def _mean(overlaps: Sequence[tuple[float, float, bool] | None]) -> tuple[float, float, int]:
    """Means of overlap and chance over matrices, and in how many the overlap is above all simulated ones."""
    known = [one for one in overlaps if one is not None]
    if not known:
        return 0.0, 0.0, 0
    count = len(known)
    return sum(one[0] for one in known) / count, sum(one[1] for one in known) / count, sum(one[2] for one in known)
