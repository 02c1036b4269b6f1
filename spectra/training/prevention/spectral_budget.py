"""Every singular value of every update is kept below a share of the size at which intruders begin."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spectra.errors import ModelError, SpectrumError, first_five
from spectra.metrics.intruders import require_epsilon
from spectra.metrics.safe_size import safe_size
from spectra.metrics.thresholds import random_critical_sizes
from spectra.training.method import Method, lora_config
from spectra.training.prevention.factors import LoraLayer, lora_layers, multiply, powers, rounding
from spectra.training.prevention.moment import Moment
from spectra.training.prevention.rule import UpdateRule, require_count, require_number
from spectra.training.settings import TrainingSettings

Bound = Literal["certain", "random"]
DRAWS = 5  # random directions; the smallest of their critical sizes counts
# Relative size, to the sum of a Gram matrix, of what makes its Cholesky factorisation safe: in float64, far below the
# rounding of factors in float32.
RIDGE = 1e-14
# What rounding takes from a trace of powers, relative to the same power of the traces.
LOST = 1e-14


class SpectralBudget(UpdateRule):
    """sigma_1(scaling * B @ A) <= share * critical size of W0,  for every matrix, after every optimiser step.

    After a step, singular values of the update above the cap are set to it, and its singular vectors stay:
    with G = B^T B = R^T R, H = A A^T and  R H R^T = U diag(S^2) U^T,  S being the singular values of B A,

        B A  ->  B T A,    T = I - H R^T U diag((1 - min(1, cap/(scaling S))) / S^2) U^T R,

    which is the projection onto the set of all updates below the cap, in products of the size of the rank. B and A
    each take the square root of T, so that they stay balanced; where one of them is frozen, the other takes all.

    Source: our own. The projection is that onto a ball of the spectral norm, e.g. Lewis 1995, J. Convex Anal. 2; the
        sizes are those of `metrics.safe_size` and `metrics.thresholds`.
    """

    def __init__(
        self,
        share: float | int | Sequence[float | int] = 0.8,
        *,
        bound: Bound = "certain",
        k: int = 10,
        epsilon: float | int = 0.5,
    ) -> None:
        """Say how large an update may be.

        Args:
            share: Of the critical size, above 0 and at most 1; two numbers are the share at the beginning and at the
                end of the training, with a straight line between them.
            bound: What the critical size is. "certain": no update whatever of that size makes an intruder among the k
                leading left or right singular vectors (`metrics.safe_size`). "random": the smallest size at which
                one of 5 random directions made one; some 30 to 100 times as large, and it promises nothing.
            k: Leading singular vectors looked at per matrix.
            epsilon: Cosine below which a vector is an intruder.

        Raises:
            SpectrumError: If a setting has no meaning.
        """
        shares = list(share) if isinstance(share, Sequence) and not isinstance(share, str) else [share, share]
        if len(shares) != 2:
            raise SpectrumError(f"share is {share!r}. Give one number, or the first and the last one.")
        self.shares = tuple(require_number("share", one, above=0, most=1) for one in shares)
        if bound not in get_args(Bound):
            raise SpectrumError(f"bound is {bound!r}. Use certain or random.")
        self.bound, self.k = bound, require_count("k", k)
        self.epsilon = require_number("epsilon", epsilon)
        require_epsilon(self.epsilon)
        self.critical: dict[str, float] = {}
        self._layers: list[LoraLayer] = []

    def begin(self, model: nn.Module) -> None:
        """Find the critical size of every matrix.

        Raises:
            ModelError: If no plain LoRA is trained, or a matrix has no size that is certain.
        """
        self._layers = lora_layers(model, type(self).__name__)
        self.critical = {layer.name: self._critical_size(layer) for layer in self._layers}
        if none := [name for name, size in self.critical.items() if not size > 0]:
            raise ModelError(
                f"The leading singular values of {first_five(none)} are equal, so no size of an update is certain to "
                "make no intruder there. Leave these modules out, or use bound random."
            )

    def caps(self, moment: Moment) -> dict[str, float]:
        """What sigma_1 of every update may be at this moment."""
        first, last = self.shares
        share = first + (last - first) * moment.progress
        return {name: share * size for name, size in self.critical.items()}

    @torch.no_grad()
    def keep(self, moment: Moment) -> None:
        """Set singular values above the cap to it."""
        caps = self.caps(moment)
        for layers in _of_one_rank(self._layers):
            limits = torch.tensor([caps[layer.name] for layer in layers], dtype=torch.float64)
            for layer, limit, G, H in _beyond(layers, limits):
                _clip(layer, limit, G, H)

    def _critical_size(self, layer: LoraLayer) -> float:
        W0 = layer.base_weight()
        gram = W0.double() @ W0.double().mH if W0.shape[0] <= W0.shape[1] else W0.double().mH @ W0.double()
        # Squares of singular values: the small ones lose digits, and only the leading ones and their gaps matter.
        S0 = torch.linalg.eigvalsh(gram).flip(0).clamp_min(0).sqrt().cpu()
        if self.bound == "certain":
            return float(safe_size(S0, k=self.k, epsilon=self.epsilon))
        return _random_size(tuple(S0.tolist()), tuple(W0.shape), self.k, self.epsilon)


@lru_cache(maxsize=1024)  # the trials of a sweep share their base
def _random_size(values: tuple[float, ...], shape: tuple[int, int], k: int, epsilon: float) -> float:
    S0 = torch.tensor(values, dtype=torch.float64)
    return float(random_critical_sizes(S0, shape, k=k, epsilon=epsilon, draws=DRAWS)[0])


def _of_one_rank(layers: Sequence[LoraLayer]) -> Iterator[list[LoraLayer]]:
    """Layers whose small matrices can be stacked."""
    ranks = dict.fromkeys((layer.A.shape[0], layer.A.device) for layer in layers)
    for rank, device in ranks:
        yield [layer for layer in layers if (layer.A.shape[0], layer.A.device) == (rank, device)]


def _beyond(
    layers: Sequence[LoraLayer], limits: Float[Tensor, " n"]
) -> Iterator[tuple[LoraLayer, float, Tensor, Tensor]]:
    """The layers whose update may exceed its limit, with the Gram matrices of their factors.

    sigma_1(B A)^8 <= tr (G H)^4 tells most of the others without a factorisation.
    """
    G, H = (torch.stack([factor.mH @ factor for factor in factors]) for factors in _tall_factors(layers))
    scalings = torch.tensor([abs(layer.scaling) for layer in layers], dtype=torch.float64, device=G.device)
    squares = scalings[:, None, None] ** 2 * (G @ H)
    fourth = squares @ squares
    traces = scalings**2 * G.diagonal(dim1=1, dim2=2).sum(1) * H.diagonal(dim1=1, dim2=2).sum(1)
    bound = (torch.einsum("nij,nji->n", fourth, fourth).clamp_min(0) + LOST * traces**4) ** 0.125
    for index in (bound > limits.to(bound.device)).nonzero()[:, 0].tolist():
        yield layers[index], float(limits[index]), G[index], H[index]


def _tall_factors(layers: Sequence[LoraLayer]) -> tuple[list[Tensor], list[Tensor]]:
    """B and A^T in float64."""
    return [layer.B.detach().double() for layer in layers], [layer.A.detach().double().mH for layer in layers]


def _clip(layer: LoraLayer, limit: float, G: Tensor, H: Tensor) -> None:
    """Set the singular values of one update above a limit to it."""
    scaling, rank = abs(layer.scaling), G.shape[0]
    identity = torch.eye(rank, dtype=G.dtype, device=G.device)
    R = torch.linalg.cholesky(G + RIDGE * G.trace() * identity).mH
    squares, U = torch.linalg.eigh(R @ H @ R.mH)
    S = squares.clamp_min(0).sqrt()
    if scaling * float(S[-1]) <= limit:
        return

    def transform(cap: float, power: float) -> Tensor:
        kept = (cap / (scaling * S.clamp_min(torch.finfo(S.dtype).tiny))).clamp_max(1.0) ** power
        cut = torch.where(kept < 1, (1 - kept) / squares.clamp_min(torch.finfo(S.dtype).tiny), torch.zeros_like(S))
        return identity - H @ R.mH @ (U * cut) @ U.mH @ R

    into_B, into_A = powers(layer)
    left, right = transform(limit, into_B), transform(limit, into_A)
    sizes = scaling * ((left.mH @ G @ left).trace() * (right @ H @ right.mH).trace()).sqrt()
    slack = float(rounding(layer, sizes))
    if slack > limit / 2:  # factors that nearly cancel, in coarse storage: what they are rounded to is what counts
        shrunk = float(limit / (4 * scaling * (G.trace() * H.trace()).sqrt()))
        multiply(layer, identity * shrunk**into_B, identity * shrunk**into_A)
        return
    multiply(layer, transform(limit - slack, into_B), transform(limit - slack, into_A))


def _rule(settings: TrainingSettings) -> SpectralBudget:
    return SpectralBudget(**METHOD.own(settings))


METHOD = Method(
    "spectral-budget",
    "LoRA whose singular values stay below a share of the size at which W0 gets intruders (ours).",
    lora_config(),
    title="Spectral budget",
    own_arguments=("share", "bound", "k", "epsilon"),
    rule=_rule,
)
