"""`spectra.scan`: every measure of a checkpoint in one pass over its matrices."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from spectra.engine.cache import FactorCache
from spectra.records import DEFAULT_GROUPS, MatrixMeasures, SpectralScan, chosen_groups
from spectra.records.intruder_scan import Side
from spectra.records.provenance import versions
from spectra.scanning.matrix_measures import measure_matrix
from spectra.scanning.nulls.null_store import NullStore
from spectra.scanning.settings import ScanSettings
from spectra.scanning.survey_settings import SurveySettings
from spectra.weights import CheckpointPair, open_pair

Progress = Callable[[int, int, str], None]


def scan(
    checkpoint: str | Path,
    base: str | Path | None = None,
    *,
    metrics: str | Sequence[str] = DEFAULT_GROUPS,
    k: int = 10,
    epsilon: float = 0.5,
    epsilons: Sequence[float] = (),
    side: str = "left",
    seed: int = 0,
    draws: int = 1,
    exact: bool = False,
    method: str = "auto",
    dtype: str = "float32",
    device: str = "cpu",
    memory_bytes: int | None = None,
    cache: FactorCache | None = None,
    progress: Progress | None = None,
    **selection: Any,
) -> SpectralScan:
    """Measure what fine-tuning did to the spectra of a checkpoint, each number beside what chance would give.

    Args:
        checkpoint: A peft adapter folder or a full checkpoint (folder, file or hub id).
        base: The pre-trained checkpoint; by default the one that the adapter names.
        metrics: Groups of `measures.GROUPS`, such as "intruders,ranks"; "all" for every one.
        k: Leading singular vectors looked at per matrix.
        epsilon: Cosine below which a vector counts as an intruder.
        epsilons: Further thresholds that the verdicts are decided for.
        side: "left" (the paper), "right" or "both".
        seed: Of every simulated control and every estimate.
        draws: Simulations of each random control.
        exact: Compute all singular values of large matrices too (a factorisation each).
        method: How verdicts are reached: "auto", "certified", "exact" or "cached-basis".
        dtype: "float32" or "float64" arithmetic.
        device: torch device of the computation.
        memory_bytes: Budget; a W0 beyond it is read block by block and has no dense controls.
        cache: Where factors of W0 and simulations are kept between scans; None keeps nothing.
        progress: Called with (matrices done, all, name) after each.
        **selection: `include`, `exclude`, `roles`, `layers`, ... of `open_pair`.

    Returns:
        One entry per matrix; `to_dataframe()` is one row per matrix, metric and side.

    Raises:
        CheckpointError, AdapterError: If a checkpoint cannot be read or does not fit its base.
        SpectrumError: If a setting has no meaning.
    """
    question = ScanSettings(
        k=k,
        epsilon=epsilon,
        epsilons=tuple(epsilons),
        side=side,
        method=method,
        dtype=dtype,
        device=device,
        memory_bytes=memory_bytes,
    )
    settings = SurveySettings(question, chosen_groups(metrics), seed, draws, exact)
    partial = PartialSurvey(open_pair(base, checkpoint, **selection), settings, cache)
    partial.run(progress)
    return partial.record()


@dataclass(eq=False)
class PartialSurvey:
    """A scan that can be looked at before it is done: after Ctrl-C, `record()` holds what was finished.

    Attributes:
        pair: The opened checkpoint.
        settings: The question.
        cache: Where factors of W0 and simulations are kept between scans.
        done: The finished matrices, in checkpoint order.
    """

    pair: CheckpointPair
    settings: SurveySettings
    cache: FactorCache | None = None
    done: list[MatrixMeasures] = field(default_factory=list, init=False)

    def run(self, progress: Progress | None = None) -> None:
        """Measure one matrix after the other."""
        store = NullStore(keep=self.cache is not None)
        for matrix in self.pair.matrices:
            self.done.append(measure_matrix(matrix, self.settings, self.cache, store))
            if progress is not None:
                progress(len(self.done), len(self.pair.matrices), str(matrix.name))

    def record(self) -> SpectralScan:
        """The scan with the matrices that are done."""
        return SpectralScan(
            checkpoint=self.pair.checkpoint,
            base=self.pair.base or "",  # None only when opened to be inspected
            groups=self.settings.groups,
            k=self.settings.scan.k,
            epsilon=self.settings.scan.epsilon,
            side=cast(Side, self.settings.scan.side),  # checked by ScanSettings
            seed=self.settings.seed,
            matrices=tuple(self.done),
            skipped=self.pair.skipped,
            warnings=(*self.pair.warnings, *self._warnings()),
            versions=versions(),
            kind=self.pair.method,
            coverage=self.pair.coverage,
        )

    def _warnings(self) -> Iterator[str]:
        """What a reader of the numbers has to know."""
        if len(self.done) < len(self.pair.matrices):
            yield f"Interrupted: {len(self.done)} of {len(self.pair.matrices)} matrices are scanned."
        ill = sum(vector.verdict.ill_conditioned for matrix in self.done for vector in matrix.vectors)
        if ill:
            yield (
                f"{ill} vectors are ill-conditioned: a neighbouring singular value is equal to rounding, "
                "so the single vector, and its verdict, is arbitrary."
            )
        estimated = sum(any(measure.how == "estimate" for measure in matrix.measures) for matrix in self.done)
        if estimated:
            yield (
                f"{estimated} matrices are large: ranks, edge and spikes that need their whole spectrum are estimates "
                "with a standard error (`how`, `error`). Ask for --exact to compute every singular value."
            )
