"""Many checkpoints on many held-out tasks: the base is measured once, every checkpoint in the same code path."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch

from spectra.errors import ModelError, first_five
from spectra.forgetting.held_out import HeldOut
from spectra.forgetting.loaded import measure_loaded
from spectra.forgetting.measurable import architecture, require_heads, require_measurable
from spectra.forgetting.one_base import OneBase
from spectra.models import (
    LoadedModel,
    base_of,
    content_of,
    is_adapter,
    load_tuned,
)
from spectra.records.provenance import versions
from spectra.records.verdicts import html_table
from spectra.statistics.interval import interval_text
from spectra.statistics.paired import Forgetting, forgetting
from spectra.statistics.scores import Scores
from spectra.storage.destinations import require_continued
from spectra.storage.keyed import KeyedStore

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedModel

Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class ForgettingRun:
    """Forgetting of every checkpoint on every held-out task.

    Attributes:
        base: The base as the user named it.
        results: For each checkpoint, in the order given, one result per held-out task.
        versions: Versions of the software that computed it.
    """

    base: str
    results: Mapping[str, tuple[Forgetting, ...]]
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of `spectra forget`."""
        return {
            "base": self.base,
            "checkpoints": [
                {"checkpoint": checkpoint, "heldout": [result.to_dict() for result in results]}
                for checkpoint, results in self.results.items()
            ],
            "versions": dict(self.versions),
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """One flat row per checkpoint and held-out task."""
        for checkpoint, results in self.results.items():
            for result in results:
                yield {"checkpoint": checkpoint, "base_model": self.base, **result.to_dict()}

    def to_dataframe(self) -> "pd.DataFrame":
        """One row per checkpoint and held-out task as a pandas table."""
        import pandas as pd

        return pd.DataFrame(list(self.rows()))

    def _repr_html_(self) -> str:
        """One row per checkpoint and held-out task, for notebooks, with the verdicts below."""
        found = [(checkpoint, one) for checkpoint, several in self.results.items() for one in several]
        rows = [
            (
                checkpoint,
                one.task,
                f"{one.base:.4g}",
                f"{one.tuned:.4g}",
                f"{one.forgetting:+.4g}",
                interval_text(one.low, one.high),
                str(one.n),
                one.finding,
            )
            for checkpoint, one in found
        ]
        headings = ("checkpoint", "held-out task", "base", "tuned", "forgetting", "interval", "examples", "finding")
        notes = dict.fromkeys(sentence for _, one in found for sentence in (one.verdict, *one.warnings))
        return html_table(f"Forgetting against {self.base}", headings, rows, list(notes))


def measure_forgetting(
    checkpoints: Sequence[str],
    held_out: Sequence[HeldOut],
    *,
    base: str | None = None,
    dtype: Precision = "float32",
    device: str = "cpu",
    batch_size: int = 16,
    folder: Path | None = None,
    progress: Callable[[str], None] | None = None,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> ForgettingRun:
    """Measure what each checkpoint forgot.

    Adapters are put on one base in memory and taken off again; full checkpoints are loaded one after the other.

    Args:
        checkpoints: Adapter folders or full checkpoints, all tuned from one base.
        held_out: Tasks and measures.
        base: Asset name, folder or hub id; None takes the base that the adapters name.
        dtype: Arithmetic of both base and tuned model.
        device: Where to measure.
        batch_size: Sequences per forward pass.
        folder: Keeps finished scores here and takes them from here; None keeps nothing.
        progress: Called with one line per measurement.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.
        level: Of the intervals.

    Raises:
        ModelError: If the base is not stated, or a model lacks the head that a measure needs.
        DataError: If a task does not fit its measure.
    """
    if folder is not None:
        require_continued(folder, "forget", inputs=[Path(checkpoint) for checkpoint in checkpoints])
    reference = base or _stated_base(checkpoints)
    for checkpoint in checkpoints:
        require_heads(Path(checkpoint), held_out)
    scorer = _ModelScorer(
        body=OneBase(reference, dtype=getattr(torch, dtype), device=device),
        head=OneBase(reference, dtype=getattr(torch, dtype), device=device),
        store=KeyedStore(folder, "scores", owner="forget"),
        settings={"dtype": dtype, "batch_size": batch_size, "device": device},
        held_out=held_out,
        batch_size=batch_size,
        say=progress or (lambda line: None),
    )
    fresh = [Path(checkpoint) for checkpoint in checkpoints if not scorer.is_known(Path(checkpoint))]
    require_measurable(fresh, held_out, scorer.body)
    results = {}
    for checkpoint in checkpoints:
        base_scores = scorer.base_scores(Path(checkpoint))
        tuned_scores = scorer.tuned_scores(Path(checkpoint))
        results[checkpoint] = tuple(
            forgetting(before, after, seed=seed, resamples=resamples, level=level)
            for before, after in zip(base_scores, tuned_scores, strict=True)
        )
    return ForgettingRun(base=reference, results=results, versions=versions())


@dataclass(frozen=True, eq=False)
class _ModelScorer:
    """What the measurements of one run share.

    `head` holds the base once more, as a masked-LM, when tuned bodies have to be put under its head.
    """

    body: OneBase
    head: OneBase
    store: KeyedStore
    settings: Mapping[str, Any]
    held_out: Sequence[HeldOut]
    batch_size: int
    say: Callable[[str], None]

    def is_known(self, checkpoint: Path) -> bool:
        """Whether all scores of a checkpoint and of its base are kept."""
        contents = [self._content(checkpoint, None), self._content(checkpoint, content_of(checkpoint))]
        return all(self.store.find(question) for content in contents for question in self._questions(content))

    def base_scores(self, checkpoint: Path) -> list[Scores]:
        """Of the untouched base, in the architecture of a checkpoint."""
        reference = self.body.reference
        return self._scores(reference, checkpoint, self._content(checkpoint, None), nullcontext(None))

    def tuned_scores(self, checkpoint: Path) -> list[Scores]:
        """Of a checkpoint."""
        content = self._content(checkpoint, content_of(checkpoint))
        return self._scores(str(checkpoint), checkpoint, content, self._tuned(checkpoint))

    def _content(self, checkpoint: Path, tuned: str | None) -> dict[str, Any]:
        """All that makes the model that is measured."""
        kind, labels = architecture(checkpoint)
        return {"base": content_of(self.body.reference), "kind": kind, "labels": labels, "tuned": tuned}

    def _questions(self, content: dict[str, Any]) -> list[Any]:
        """What decides the score of each task."""
        return [[content, task.identity, self.settings] for task in self.held_out]

    def _scores(
        self,
        reference: str,
        checkpoint: Path,
        content: dict[str, Any],
        opened: AbstractContextManager[LoadedModel | None],
    ) -> list[Scores]:
        questions = self._questions(content)
        kept = [self.store.find(question) for question in questions]
        found = [Scores.from_dict(answer) if answer else None for answer in kept]
        missing = [task for task, scores in zip(self.held_out, found, strict=True) if scores is None]
        if missing:
            kind, labels = architecture(checkpoint)
            with opened as tuned:
                loaded = tuned or self.body.untouched(kind, labels)
                self.say(f"{reference}: measuring {', '.join(task.name for task in missing)}")
                fresh = measure_loaded(loaded, missing, pretrained=self._pretrained, batch_size=self.batch_size)
            measured = iter(fresh)
            for position, question in enumerate(questions):
                if found[position] is None:
                    found[position] = scores = next(measured)
                    self.store.keep(question, scores.to_dict())
        # What was kept under another name is the same measurement.
        return [replace(cast(Scores, one), task=task.name) for task, one in zip(self.held_out, found, strict=True)]

    def _pretrained(self) -> "PreTrainedModel":
        return cast("PreTrainedModel", self.head.untouched("masked-lm").model)

    @contextmanager
    def _tuned(self, checkpoint: Path) -> Iterator[LoadedModel]:
        kind, labels = architecture(checkpoint)
        if is_adapter(checkpoint):
            untouched = self.body.untouched(kind, labels)
            with self.body.wearing(checkpoint, kind, labels) as model:
                yield replace(untouched, model=model)
        else:
            self.body.release()  # a full checkpoint takes the base's place in memory
            yield load_tuned(checkpoint, base=self.body.reference, dtype=self.body.dtype, device=self.body.device)


def _stated_base(checkpoints: Sequence[str]) -> str:
    """The one base that all adapters name."""
    if full := [checkpoint for checkpoint in checkpoints if not is_adapter(Path(checkpoint))]:
        raise ModelError(f"Full checkpoints do not name their base: {first_five(full)}. Give it with --base.")
    bases = sorted({base_of(Path(checkpoint)) for checkpoint in checkpoints})
    if len(bases) != 1:
        raise ModelError(f"The adapters name {len(bases)} bases: {first_five(bases)}. Measure one base at a time.")
    return bases[0]
