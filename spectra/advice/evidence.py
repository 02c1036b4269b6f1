"""What advice rests on: one checkpoint, or the chosen trials of a sweep whose weights are still there."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectra.errors import RunError
from spectra.models import resolve_model
from spectra.records.selection import Selection
from spectra.runs import Run
from spectra.sweep.trial.learning_rate_selection import best_configuration
from spectra.weights import CheckpointPair, open_pair

if TYPE_CHECKING:
    import pandas as pd

# Methods whose adapter is scaling * B @ A on the published W0, so that an alpha can be advised from them.
SCALED = ("lora", "rslora", "lora+", "frozen-a")


@dataclass(frozen=True)
class Evidence:
    """The updates that ranks and alphas are read from.

    Attributes:
        ranks: The checkpoint whose update decides the ranks: a fully tuned one where there is one.
        scale: The LoRA checkpoint whose alpha is judged; None without one.
        sentences: What they are, for the reader of the advice.
    """

    ranks: CheckpointPair
    scale: CheckpointPair | None
    sentences: tuple[str, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Of both checkpoints, each once."""
        return tuple(dict.fromkeys((*self.ranks.warnings, *(self.scale.warnings if self.scale else ()))))


def read_evidence(source: str | Path, base: str | Path | None, selection: Selection) -> Evidence:
    """Open a checkpoint, or the best trials of a run folder.

    Args:
        source: A checkpoint, or the run folder of `spectra sweep`.
        base: The pre-trained checkpoint; a run folder and most adapters name their own.
        selection: Which matrices, and how the files are opened.

    Raises:
        RunError: If a run folder has no trial whose weights are kept.
        CheckpointError: If a checkpoint cannot be read.
    """
    if (Path(source) / "sweep.json").is_file():
        return _of_run(Run.open(Path(source)), base, selection)
    pair = open_pair(base, source, selection)
    is_lora = any(matrix.lora is not None for matrix in pair.matrices)
    return Evidence(pair, pair if is_lora else None, (_seen(pair, "one checkpoint"),))


def _of_run(run: Run, base: str | Path | None, selection: Selection) -> Evidence:
    trials = run.table("trials")
    kept = trials[[run.trial(trial).weights is not None for trial in trials["trial"]]]
    full = _looked_at(kept[kept["method"] == "full"])
    lora = _looked_at(kept[kept["method"].isin(SCALED)])
    if full is None and lora is None:
        raise RunError(
            f"No trial of '{run.path}' has its weights any more. Train it again with keep=all, or name a checkpoint."
        )
    reference = base if base is not None else resolve_model(run.specification["base"])
    pairs = {
        name: open_pair(reference, str(run.trial(row["trial"]).weights), selection)
        for name, row in (("full", full), ("lora", lora))
        if row is not None
    }
    seeds = trials["seed"].nunique()
    sentences = [
        _seen(pairs[name], f"trial '{row['label']}' at learning rate {row['learning_rate']:g}, seed {row['seed']}")
        for name, row in (("full", full), ("lora", lora))
        if row is not None
    ]
    sentences.append(f"The run has {seeds} {'seed' if seeds == 1 else 'seeds'}; one trial of each kind was looked at.")
    scale = pairs.get("lora")
    return Evidence(
        pairs.get("full", scale),  # type: ignore[arg-type] # one of the two is there
        scale,
        tuple(sentences),
    )


def _looked_at(trials: "pd.DataFrame") -> "pd.Series[Any] | None":
    """The first seed of the best configuration: a best seed would be a lucky one."""
    best = best_configuration(trials)
    return None if best.empty else best.iloc[0]


def _seen(pair: CheckpointPair, what: str) -> str:
    ranks = sorted({matrix.lora.rank for matrix in pair.matrices if matrix.lora is not None})
    kind = f"{pair.method}, rank {', '.join(map(str, ranks))}" if ranks else "fully tuned"
    return f"'{pair.checkpoint}' ({kind}; {len(pair.matrices)} matrices; {what})."
