"""`advise`: rank, alpha and layers of a LoRA configuration, from updates that were trained already."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from spectra.advice.critical import critical_scale
from spectra.advice.evidence import Evidence, read_evidence
from spectra.advice.records import Advice, CriticalScale, MatrixAdvice
from spectra.engine.cache import FactorCache
from spectra.errors import SpectrumError
from spectra.metrics.explained_variance import rank_for_variance, variance_of_rank
from spectra.records.provenance import versions
from spectra.records.selection import DEFAULT, Selection
from spectra.scanning.facts import PairFacts, facts_of
from spectra.scanning.settings import ScanSettings
from spectra.sweep.spec.values import alpha_or_rule, resolved_alpha
from spectra.weights import MatrixPair

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class AdviceSettings:
    """What advice is asked for.

    Attributes:
        keep: Share of each update's energy that its rank must keep.
        max_rank: No rank is larger; None: no limit.
        alpha: Rule for alpha where no LoRA update was looked at, such as "2r" or 16.
        headroom: Largest advised scale, as a share of the critical one.
        draws: Random directions behind a predicted threshold.
        seed: Of the draws.
        measure: Scan growing multiples of the update too, where the thin SVD of W0 costs little.
        scan: k, epsilon, arithmetic and device.
    """

    keep: float = 0.9
    max_rank: int | None = None
    alpha: float | str = "2r"
    headroom: float = 0.9
    draws: int = 15
    seed: int = 0
    measure: bool = True
    scan: ScanSettings = field(default_factory=ScanSettings)

    def __post_init__(self) -> None:
        """Refuse what has no meaning.

        Raises:
            SpectrumError: With the value and the remedy.
        """
        for name, value in (("keep", self.keep), ("headroom", self.headroom)):
            if not 0 < value <= 1:
                raise SpectrumError(f"{name} is {value}, but it is a share in (0, 1]. Use for instance 0.9.")
        for name, count in (("draws", self.draws), ("max_rank", self.max_rank)):
            if count is not None and count < 1:
                raise SpectrumError(f"{name} is {count}, but it is at least 1. Use a positive number.")
        try:
            alpha_or_rule(self.alpha)
        except ValueError as error:
            raise SpectrumError(f"The rule for alpha has no meaning: {error}.") from error


def advise(
    source: str | Path,
    base: str | Path | None = None,
    *,
    selection: Selection = DEFAULT,
    keep: float = 0.9,
    max_rank: int | None = None,
    alpha: float | str = "2r",
    headroom: float = 0.9,
    draws: int = 15,
    seed: int = 0,
    measure: bool = True,
    k: int = 10,
    epsilon: float = 0.5,
    device: str = "cpu",
    cache: FactorCache | None = None,
    progress: Progress | None = None,
) -> Advice:
    """Rank and alpha per matrix for the next LoRA training, from a checkpoint or a sweep of the same task.

    Ranks: the smallest that keeps `keep` of ||delta_W||_F^2, matrix by matrix, of a fully tuned checkpoint where the
    evidence has one. Alphas: the scaling of the LoRA checkpoint in the evidence, lowered where its update has an
    intruder already, or would have one within `headroom`; without one, the rule `alpha`.

    Args:
        source: A checkpoint, or the run folder of `spectra sweep`.
        base: The pre-trained checkpoint; by default the one that the source names.
        selection: Which matrices, and how the files are opened.
        keep: Share of each update's energy that its rank must keep.
        max_rank: No rank is larger; None: no limit.
        alpha: Rule for alpha where no LoRA update was looked at, such as "2r" or 16.
        headroom: Largest advised scale, as a share of the critical one.
        draws: Random directions behind a predicted threshold.
        seed: Seed of the random directions.
        measure: Scan growing multiples of the update too, where the thin SVD of W0 costs little.
        k: Leading singular vectors looked at per matrix.
        epsilon: Cosine below which a vector counts as an intruder.
        device: torch device of the computation.
        cache: Where factors of W0 are kept between calls.
        progress: Called with (matrices done, all, name) after each.

    Raises:
        RunError: If a run folder has no trial whose weights are kept.
        SpectrumError: If a setting has no meaning, or nothing was changed by the tuning.
        CheckpointError: If a checkpoint cannot be read.

    Example:
        >>> advice = spectra.advise(full, base, keep=0.5, k=4, draws=1, measure=False)
        >>> sorted(advice.lora_config())
        ['alpha_pattern', 'lora_alpha', 'r', 'rank_pattern', 'target_modules']
    """
    asked = AdviceSettings(
        keep=keep,
        max_rank=max_rank,
        alpha=alpha,
        headroom=headroom,
        draws=draws,
        seed=seed,
        measure=measure,
        scan=ScanSettings(k=k, epsilon=epsilon, device=device),
    )
    evidence = read_evidence(source, base, selection)
    scaled = {str(matrix.name): matrix for matrix in evidence.scale.matrices} if evidence.scale else {}
    advised: list[MatrixAdvice] = []
    still: list[str] = []
    total = len(evidence.ranks.matrices)
    for done, matrix in enumerate(evidence.ranks.matrices, start=1):
        found = _one(matrix, scaled.get(str(matrix.name)), asked, cache)
        if found is None:
            still.append(str(matrix.name))
        else:
            advised.append(found)
        if progress is not None:
            progress(done, total, str(matrix.name))
    if not advised:
        raise SpectrumError(
            f"'{evidence.ranks.checkpoint}' equals its base in all {total} matrices. Name a checkpoint that was tuned."
        )
    return Advice(
        base=evidence.ranks.base or "",  # None only when opened to be inspected
        keep=asked.keep,
        k=asked.scan.k,
        epsilon=asked.scan.epsilon,
        evidence=(*evidence.sentences, *_limits(evidence, advised, asked, still)),
        matrices=tuple(advised),
        warnings=tuple(dict.fromkeys((*evidence.ranks.warnings, *(evidence.scale.warnings if evidence.scale else ())))),
        versions=versions(),
    )


def _one(
    of_ranks: MatrixPair, of_scale: MatrixPair | None, asked: AdviceSettings, cache: FactorCache | None
) -> MatrixAdvice | None:
    """The advice on one matrix; None if it was not changed."""
    settings = replace(asked.scan, groups=("update",), seed=asked.seed)
    sources = [of_ranks] if of_scale is None or of_scale is of_ranks else [of_ranks, of_scale]
    facts = facts_of(sources, settings, cache, judge=False)
    spectrum = facts[0].delta_spectrum
    rank = int(-(-spectrum.measure(lambda S, w: rank_for_variance(S, asked.keep, w))[0] // 1))
    if rank == 0:
        return None
    rank = min(rank, asked.max_rank or rank)
    critical = critical_scale(facts[-1], draws=asked.draws, seed=asked.seed, measure=asked.measure)
    in_use = None if of_scale is None or of_scale.lora is None else of_scale.lora.scaling * rank
    return MatrixAdvice(
        name=str(of_ranks.name),
        layer=of_ranks.name.layer,
        role=of_ranks.name.role,
        shape=of_ranks.shape,
        rank=rank,
        energy_kept=spectrum.measure(lambda S, w: variance_of_rank(S, rank, w))[0],
        alpha=_alpha(in_use, critical, rank, asked),
        frobenius=facts[0].delta_frobenius,
        spectral=_spectral(facts[-1]),
        alpha_in_use=in_use,
        critical=critical,
    )


def _alpha(in_use: float | None, critical: CriticalScale | None, rank: int, asked: AdviceSettings) -> float:
    """The alpha in use, lowered to stay below the critical one; the rule where none is in use."""
    if in_use is None:
        return resolved_alpha(asked.alpha, rank)
    if critical is None or critical.best is None:
        return in_use
    return float(f"{in_use * min(1.0, asked.headroom * critical.best):.4g}")  # peft's JSON need not hold more digits


def _spectral(facts: PairFacts) -> float | None:
    delta = facts.delta_svd
    return float(delta.S[0]) if delta is not None and delta.S.shape[0] else None


def _limits(
    evidence: Evidence, advised: Sequence[MatrixAdvice], asked: AdviceSettings, still: Sequence[str]
) -> Iterator[str]:
    """What the advice does not rest on."""
    ranks = [matrix.lora.rank for matrix in evidence.ranks.matrices if matrix.lora is not None]
    if ranks:
        yield (
            f"Ranks are read from a LoRA update, which has at most rank {max(ranks)}: a full update may need more. "
            "Give a fully tuned checkpoint to know."
        )
    if still:
        yield f"{len(still)} matrices were not changed by the tuning and are left out."
    capped = sum(matrix.energy_kept < asked.keep - 1e-9 for matrix in advised)
    if capped:
        yield f"Stopped at --max-rank {asked.max_rank}, keeping less than asked: {capped} of {len(advised)} ranks."
    measured = sum(matrix.critical is not None and matrix.critical.searched is not None for matrix in advised)
    if evidence.scale is None:
        yield f"No LoRA update was looked at: alpha follows the rule {asked.alpha}; which are critical is unknown."
    else:
        yield (
            "Critical alphas speak of the trained factors, scaled afterwards: training at another alpha trains other "
            f"factors. They were measured for {measured} of {len(advised)} matrices and are predictions for the others."
        )
    yield "Ranks and alphas were read off trained updates and not tried: --verify tries them."
