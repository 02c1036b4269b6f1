"""`advise`: rank, alpha and layers of a LoRA configuration, from updates that were trained already."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from spectra.advice.critical import critical_scale
from spectra.advice.evidence import Evidence, read_evidence
from spectra.advice.ranks import RankRule
from spectra.advice.records import Advice, CriticalScale, MatrixAdvice
from spectra.engine.cache import FactorCache
from spectra.errors import SpectrumError
from spectra.linalg.density import Spectrum
from spectra.metrics.explained_variance import variance_of_rank
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
        rule: How ranks are chosen.
        alpha: Rule for alpha where no LoRA update was looked at, such as "2r" or 16.
        headroom: Largest advised scale, as a share of the critical one.
        draws: Random directions behind a predicted threshold.
        seed: Of the draws.
        measure: Scan growing multiples of the update too, where the thin SVD of W0 costs little.
        own: Predict for each update's own directions too, and not for random ones alone.
        scan: k, epsilon, arithmetic and device.
    """

    rule: RankRule = field(default_factory=RankRule)
    alpha: float | str = "2r"
    headroom: float = 0.9
    draws: int = 15
    seed: int = 0
    measure: bool = True
    own: bool = True
    scan: ScanSettings = field(default_factory=ScanSettings)

    def __post_init__(self) -> None:
        """Refuse what has no meaning.

        Raises:
            SpectrumError: With the value and the remedy.
        """
        if not 0 < self.headroom <= 1:
            raise SpectrumError(f"headroom is {self.headroom}, but it is a share in (0, 1]. Use for instance 0.9.")
        if self.draws < 1:
            raise SpectrumError(f"draws is {self.draws}, but it is at least 1. Use a positive number.")
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
    budget: int | None = None,
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
    evidence has one; with a `budget`, those that together hold most energy. Alphas: the scaling of the LoRA checkpoint
    in the evidence, lowered where its update has an intruder already, or would have one within `headroom`; without
    one, the rule `alpha`.

    Args:
        source: A checkpoint, or the run folder of `spectra sweep`.
        base: The pre-trained checkpoint; by default the one that the source names.
        selection: Which matrices, and how the files are opened.
        keep: Share of each update's energy that its rank must keep.
        max_rank: No rank is larger; None: no limit.
        budget: Trained numbers of the whole adapter, instead of `keep`: they go where they hold most energy, and a
            matrix that gets none is left out.
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
        rule=RankRule(keep, max_rank, budget),
        alpha=alpha,
        headroom=headroom,
        draws=draws,
        seed=seed,
        measure=measure,
        scan=ScanSettings(k=k, epsilon=epsilon, device=device),
    )
    evidence = read_evidence(source, base, selection)
    found = advised_matrices(evidence, asked, cache, progress)
    return Advice(
        base=evidence.ranks.base or "",  # None only when opened to be inspected
        keep=asked.rule.keep,
        budget=asked.rule.budget,
        k=asked.scan.k,
        epsilon=asked.scan.epsilon,
        evidence=(*evidence.sentences, *_limits(evidence, found, asked)),
        matrices=found.matrices,
        warnings=evidence.warnings,
        versions=versions(),
    )


@dataclass(frozen=True)
class Advised:
    """What is advised of the matrices of one evidence.

    Attributes:
        matrices: Those that get a rank.
        moved: How many the tuning changed.
        total: How many were looked at.
    """

    matrices: tuple[MatrixAdvice, ...]
    moved: int
    total: int


def advised_matrices(
    evidence: Evidence, asked: AdviceSettings, cache: FactorCache | None, progress: Progress | None
) -> Advised:
    """Rank and alpha per matrix: the engine of `advise` and of `plan`.

    Raises:
        SpectrumError: If nothing was changed by the tuning.
    """
    scaled = {str(matrix.name): matrix for matrix in evidence.scale.matrices} if evidence.scale else {}
    looked: list[_Looked] = []
    total = len(evidence.ranks.matrices)
    for done, matrix in enumerate(evidence.ranks.matrices, start=1):
        looked.append(_look(matrix, scaled.get(str(matrix.name)), asked, cache))
        if progress is not None:
            progress(done, total, str(matrix.name))
    moved = [one for one in looked if one.frobenius > 0]
    if not moved:
        raise SpectrumError(
            f"'{evidence.ranks.checkpoint}' equals its base in all {total} matrices. Name a checkpoint that was tuned."
        )
    ranks = asked.rule.ranks([one.spectrum for one in moved], [one.pair.shape for one in moved])
    given = tuple(_advice(one, rank, asked) for one, rank in zip(moved, ranks, strict=True) if rank)
    return Advised(given, len(moved), total)


@dataclass(frozen=True, eq=False)
class _Looked:
    """What was found out about one matrix, before any rank is chosen."""

    pair: MatrixPair
    spectrum: Spectrum
    frobenius: float
    spectral: float | None
    scaling: float | None
    critical: CriticalScale | None


def _look(
    of_ranks: MatrixPair, of_scale: MatrixPair | None, asked: AdviceSettings, cache: FactorCache | None
) -> _Looked:
    settings = replace(asked.scan, groups=("update",), seed=asked.seed)
    sources = [of_ranks] if of_scale is None or of_scale is of_ranks else [of_ranks, of_scale]
    facts = facts_of(sources, settings, cache, judge=False)
    return _Looked(
        of_ranks,
        facts[0].delta_spectrum,
        facts[0].delta_frobenius,
        _spectral(facts[-1]),
        None if of_scale is None or of_scale.lora is None else of_scale.lora.scaling,
        critical_scale(facts[-1], draws=asked.draws, seed=asked.seed, measure=asked.measure, own=asked.own),
    )


def _advice(looked: _Looked, rank: int, asked: AdviceSettings) -> MatrixAdvice:
    """The advice on one matrix."""
    in_use = None if looked.scaling is None else looked.scaling * rank
    return MatrixAdvice(
        name=str(looked.pair.name),
        layer=looked.pair.name.layer,
        role=looked.pair.name.role,
        shape=looked.pair.shape,
        rank=rank,
        energy_kept=looked.spectrum.measure(lambda S, w: variance_of_rank(S, rank, w))[0],
        alpha=_alpha(in_use, looked.critical, rank, asked),
        frobenius=looked.frobenius,
        spectral=looked.spectral,
        alpha_in_use=in_use,
        critical=looked.critical,
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


def _limits(evidence: Evidence, found: Advised, asked: AdviceSettings) -> Iterator[str]:
    """What the advice does not rest on."""
    advised = found.matrices
    ranks = [matrix.lora.rank for matrix in evidence.ranks.matrices if matrix.lora is not None]
    if ranks:
        yield (
            f"Ranks are read from a LoRA update, which has at most rank {max(ranks)}: a full update may need more. "
            "Give a fully tuned checkpoint to know."
        )
    if found.total > found.moved:
        yield f"{found.total - found.moved} matrices were not changed by the tuning and are left out."
    if asked.rule.budget is not None:
        yield (
            f"A budget of {asked.rule.budget:,} trained numbers was shared out by energy; "
            f"{found.moved - len(advised)} of {found.moved} matrices got none and are left out."
        )
    elif capped := sum(matrix.energy_kept < asked.rule.keep - 1e-9 for matrix in advised):
        yield f"Stopped at --max-rank {asked.rule.max_rank}, keeping less than asked: {capped} of {len(advised)} ranks."
    measured = sum(matrix.critical is not None and matrix.critical.searched is not None for matrix in advised)
    if evidence.scale is None:
        yield f"No LoRA update was looked at: alpha follows the rule {asked.alpha}; which are critical is unknown."
    else:
        yield (
            "Critical alphas speak of the trained factors, scaled afterwards: training at another alpha trains other "
            f"factors. They were measured for {measured} of {len(advised)} matrices and are predictions for the others."
        )
    yield "Ranks and alphas were read off trained updates and not tried: --verify tries them."
