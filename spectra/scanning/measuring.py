"""From the facts of a matrix to its measures: one function per group of metrics."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from spectra.linalg.density import Spectrum
from spectra.linalg.operators import LowRankUpdate
from spectra.metrics.amplification import amplification
from spectra.metrics.explained_variance import rank_for_variance
from spectra.metrics.heavy_tails import power_law
from spectra.metrics.interference import rho
from spectra.metrics.intruders import energy_share
from spectra.metrics.marchenko_pastur import bulk_edge, noise_level, spikes
from spectra.metrics.ranks import default_rcond, effective_rank, numerical_rank, stable_rank
from spectra.metrics.retention import spectrum_drift
from spectra.metrics.subspaces import phi, principal_cosines
from spectra.records import Measure
from spectra.records.measures import How
from spectra.scanning.facts import BaseFacts, PairFacts, vectors_of
from spectra.scanning.window_bounds import window_bounds

CLOSE = "the leading directions of the update lie too close together; ask for --exact"
# Below this relative size the products of W - W0 are rounding of W and W0 (`linalg.operators.Difference`).
CANCELLED = 1e-4
SHARES = {"rank_90": 0.90, "rank_95": 0.95, "rank_99": 0.99}


def intruders(facts: PairFacts) -> Iterator[Measure]:
    """How many of the leading tuned vectors resemble no pre-trained one, and which."""
    epsilon = facts.base.settings.epsilon
    for side, bounds in facts.bounds.items():
        mask = bounds.upper < epsilon
        positions = mask.nonzero().flatten().tolist()
        yield Measure("intruders.count", float(mask.sum()), side=side)
        yield Measure("intruders.energy_share", energy_share(bounds.S, mask), side=side)
        if positions:
            yield Measure("intruders.first_position", positions[0] + 1.0, side=side)
        else:
            yield Measure("intruders.first_position", None, "not computed", side, note="no intruder")
        how: How = "at least" if bounds.cosines is None else "exact"
        yield Measure("intruders.least_cosine", float(bounds.max_cosines.min()), how, side)
        least, most = window_bounds(facts, side)
        proven, possible = float((most < epsilon).sum()), float((least < epsilon).sum())
        yield Measure("intruders.windowed_count", possible, "exact" if proven == possible else "at most", side)
        yield Measure("intruders.ill_conditioned", float(bounds.ill_conditioned.sum()), side=side)


def norms(facts: PairFacts) -> Iterator[Measure]:
    """Norms of an update from all its singular values: where it has factors, or where they were asked for."""
    if not isinstance(facts.delta, LowRankUpdate) and not facts.base.settings.dense_norms:
        return
    S = facts.delta_values
    size = float(torch.linalg.vector_norm(S.double()))
    yield Measure("update.frobenius", size)
    yield Measure("update.spectral", float(S.max()) if S.shape[0] else 0.0)
    yield _ratio("update.relative", size, facts.base.frobenius)
    yield Measure("update.effective_rank", effective_rank(S))
    yield Measure("update.stable_rank", stable_rank(S))


def update(facts: PairFacts) -> Iterator[Measure]:
    """Size and ranks of delta_W. A dense control has its size alone: its ranks are known by shape (`shape_nulls`)."""
    yield Measure("update.frobenius", facts.delta_frobenius)
    size = facts.base.frobenius
    yield _ratio("update.relative", facts.delta_frobenius, size)
    if facts.noise is not None:
        return
    if facts.delta_svd is not None:
        largest = float(facts.delta_svd.S[0]) if facts.delta_svd.S.shape[0] else 0.0
        base_largest = float(facts.base.leading.S[0])
        yield Measure("update.spectral", largest)
        yield _ratio("update.relative_spectral", largest, base_largest)
        stable = (facts.delta_frobenius / largest) ** 2 if largest > 0 else 0.0
        yield Measure("update.stable_rank", stable)
    else:
        # The largest Ritz value never exceeds the largest singular value.
        largest = float(facts.delta_spectrum.values[0])
        yield Measure("update.spectral", largest, "at least")
        yield _ratio("update.relative_spectral", largest, float(facts.base.leading.S[0]), "at least")
        yield Measure("update.stable_rank", (facts.delta_frobenius / max(largest, 1e-300)) ** 2, "at most")
    yield from spectral_ranks("update", facts.delta_spectrum, facts.base)


def spectral_ranks(group: str, spectrum: Spectrum, base: BaseFacts) -> Iterator[Measure]:
    """Ranks that need the whole spectrum of the update."""
    rcond = default_rcond(base.W0.shape, base.W0.dtype)
    yield _spectral(f"{group}.effective_rank", spectrum, effective_rank)
    yield _spectral(f"{group}.numerical_rank", spectrum, lambda S, w: numerical_rank(S, rcond=rcond, weights=w))
    for name, share in SHARES.items():
        yield _spectral(f"{group}.{name}", spectrum, _rank_for(share))


def alignment(facts: PairFacts) -> Iterator[Measure]:
    """Subspaces of delta_W, W0 and W_tuned against each other."""
    base, tuned, delta = facts.base.leading, facts.leading, facts.delta_svd
    if delta is not None:
        r = delta.S.shape[0] if isinstance(facts.delta, LowRankUpdate) else facts.base.k
        factor = amplification(facts.delta_frobenius, delta.U[:, :r], facts.base.W0.matmat(delta.Vh[:r].mH))
        note = f"r = {r}" if factor is not None else "W0 vanishes on the directions of the update"
        yield Measure("alignment.amplification", factor, "exact" if factor is not None else "not computed", note=note)
    elif facts.noise is None:
        yield Measure("alignment.amplification", None, "not computed", note=CLOSE)
    for side in facts.sides:
        U0, U = vectors_of(base, side), vectors_of(tuned, side)
        if delta is not None:
            yield Measure("alignment.phi", phi(vectors_of(delta, side)[:, : facts.base.k], U0), side=side)
        elif facts.noise is None:
            yield Measure("alignment.phi", None, "not computed", side, note=CLOSE)
        if facts.noise is None or facts.noise > CANCELLED * facts.base.frobenius:
            image = facts.delta.rmatmat(U0) if side == "left" else facts.delta.matmat(U0)
            yield Measure("alignment.rho", rho(image, facts.delta_frobenius), side=side)
        yield Measure("alignment.least_principal_cosine", float(principal_cosines(U0, U)[-1]), side=side)
    yield Measure("alignment.retention", float(facts.retention.mean()))
    yield Measure("alignment.drift", spectrum_drift(base.S, tuned.S))


def spectrum_of_base(facts: PairFacts) -> Iterator[Measure]:
    """The spectrum of W0: norms, ranks, edge and spikes."""
    base = facts.base
    shape, spectrum = base.W0.shape, base.spectrum
    largest = float(base.leading.S[0])
    rcond = default_rcond(shape, base.W0.dtype)
    yield Measure("base.frobenius", base.frobenius)
    yield Measure("base.spectral", largest)
    yield Measure("base.stable_rank", (base.frobenius / largest) ** 2 if largest > 0 else 0.0)
    yield _spectral("base.effective_rank", spectrum, effective_rank)
    yield _spectral("base.numerical_rank", spectrum, lambda S, w: numerical_rank(S, rcond=rcond, weights=w))
    yield _full_rank(base, rcond)
    edge = _spectral("base.edge", spectrum, lambda S, w: bulk_edge(noise_level(S, shape, w), shape))
    yield edge
    yield _spectral("base.spikes", spectrum, lambda S, w: spikes(S, edge.value or 0.0, w))


def _full_rank(base: BaseFacts, rcond: float) -> Measure:
    """Exact from all singular values, or from the proof that a tall matrix has none below a floor."""
    n = min(base.W0.shape)
    if base.spectrum.is_exact:
        rank = numerical_rank(base.spectrum.values, rcond=rcond)
        return Measure("base.full_rank", float(rank == n), note=f"rcond = {rcond:.1e}")
    known = base.factors.leading
    if known is not None and known.floor > (rcond**2) * float(known.values[0]):
        return Measure("base.full_rank", 1.0, note="proven by a Cholesky factorisation")
    return Measure("base.full_rank", None, "not computed", note="needs every singular value; ask for --exact")


def tails(facts: PairFacts) -> Iterator[Measure]:
    """The heavy-tail exponent of W0 with its goodness of fit."""
    fit = power_law(facts.base.spectrum.values)
    yield Measure("tails.alpha", fit.alpha)
    yield Measure("tails.distance", fit.distance)
    yield Measure("tails.xmin", fit.xmin)
    yield Measure("tails.points", float(fit.points))
    if not math.isfinite(fit.against_lognormal):
        yield Measure("tails.against_lognormal", None, "not computed", note="the lognormal fit did not converge")
        return
    note = f"p = {fit.p_value:.2g}" + ("" if fit.p_value < 0.1 else ": the data cannot tell")
    yield Measure("tails.against_lognormal", fit.against_lognormal, note=note)


MEASURING: dict[str, Callable[[PairFacts], Iterator[Measure]]] = {
    "norms": norms,
    "intruders": intruders,
    "update": update,
    "alignment": alignment,
    "base": spectrum_of_base,
    "tails": tails,
}
# What controls are measured by: what does not change with the tuned matrix has no control.
CONTROLLED = ("intruders", "update", "alignment")


def _rank_for(share: float) -> Callable[[Tensor, Tensor | None], float]:
    return lambda S, weights: rank_for_variance(S, share, weights)


def _ratio(metric: str, value: float, of: float, how: How = "exact") -> Measure:
    if of > 0:
        return Measure(metric, value / of, how)
    return Measure(metric, None, "not computed", note="W0 is zero")


def _spectral(metric: str, spectrum: Spectrum, of: Callable[[Tensor, Tensor | None], float]) -> Measure:
    value, error = spectrum.measure(of)
    return Measure(metric, value, "exact" if spectrum.is_exact else "estimate", error=error)
