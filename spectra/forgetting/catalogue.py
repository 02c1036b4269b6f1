"""The table of held-out measures: what each one scores, of which models and tasks, and which function measures it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from spectra.models import ModelKind
from spectra.registry import Registry, resolved
from spectra.statistics.scores import Scores

ANY_MODEL: tuple[ModelKind, ...] = ("encoder", "classification", "masked-lm", "causal-lm", "seq2seq")


@dataclass(frozen=True)
class HeldOutMeasure:
    """One way to score a model on a held-out task: an entry of `HELD_OUT_MEASURES`.

    Attributes:
        name: What `--heldout TASK:NAME` calls it.
        documentation: One line: the loss of one example.
        measure: `measure(model, tokenizer, held_out, *, batch_size) -> Scores`: a function, or "module:function".
        model_kinds: Kinds of model that carry the head it needs.
        data_kinds: Kinds of task that it scores; empty for the texts of any.
        options: Further settings and their defaults; the function finds them in `held_out.options`.
        default_for: Kinds of task that it scores where no measure is named and no earlier entry does.
        pretrained_head: Kinds of model that it measures under the masked-LM head of the base.
        shares_features: True where the function takes `features=`, in which probes of the same texts share passes.
        needs_data: False where it brings its own task.
    """

    name: str
    documentation: str
    measure: str | Callable[..., Scores]
    model_kinds: tuple[ModelKind, ...] = ANY_MODEL
    data_kinds: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    default_for: tuple[str, ...] = ()
    pretrained_head: tuple[ModelKind, ...] = ()
    shares_features: bool = False
    needs_data: bool = True

    def measures(self, kind: ModelKind) -> bool:
        """Whether it can measure a kind of model, if need be under the head of the base."""
        return kind in self.model_kinds or kind in self.pretrained_head

    def scores(self, *asked: Any, **settings: Any) -> Scores:
        """What the function gives.

        Raises:
            TypeError: If that is no `Scores`: a slip in the code of the measure.
        """
        found = resolved(self.measure)(*asked, **settings)
        if not isinstance(found, Scores):
            raise TypeError(f"The held-out measure '{self.name}' gave a {type(found).__name__} and no Scores.")
        return found


PACKAGE = "spectra.forgetting"
OWN = (
    HeldOutMeasure(
        "linear-probe",
        "1 if a logistic regression on frozen features errs, else 0",
        f"{PACKAGE}.probe:probe",
        data_kinds=("classification",),
        default_for=("classification",),
        shares_features=True,
    ),
    HeldOutMeasure(
        "nearest-neighbour",
        "1 if the nearest training texts by cosine have another label, else 0",
        f"{PACKAGE}.probe:probe",
        data_kinds=("classification",),
        shares_features=True,
    ),
    HeldOutMeasure(
        "lm-loss",
        "next-token loss, nats per token",
        f"{PACKAGE}.lm_loss:lm_loss",
        model_kinds=("causal-lm",),
        default_for=("causal-lm",),
    ),
    HeldOutMeasure(
        "bits-per-byte", "next-token loss, bits per byte", f"{PACKAGE}.lm_loss:lm_loss", model_kinds=("causal-lm",)
    ),
    HeldOutMeasure(
        "pseudo-loss",
        "loss of each token masked in turn, nats per token",
        f"{PACKAGE}.pseudo_loss:pseudo_loss",
        model_kinds=("masked-lm",),
        pretrained_head=("encoder", "classification"),
    ),
    HeldOutMeasure(
        "label-likelihood",
        "1 if another label is likelier than the true one after the prompt, else 0",
        f"{PACKAGE}.label_likelihood:label_likelihood",
        model_kinds=("causal-lm", "seq2seq"),
        data_kinds=("classification",),
    ),
    HeldOutMeasure(
        "rouge-l",
        "1 - ROUGE-L of the greedy generation",
        f"{PACKAGE}.rouge:rouge_l",
        model_kinds=("seq2seq", "causal-lm"),
        data_kinds=("seq2seq",),
        default_for=("seq2seq",),
    ),
    HeldOutMeasure(
        "lm-eval",
        "1 - the metric of an lm-evaluation-harness task",
        f"{PACKAGE}.lm_eval:lm_eval_scores",
        model_kinds=("causal-lm", "seq2seq"),
        needs_data=False,
    ),
)
HELD_OUT_MEASURES = Registry("spectra.heldout_measures", "held-out measure", HeldOutMeasure, OWN)


def default_measure(kind: str) -> str | None:
    """The measure of a kind of task where none is named; None where a kind has none."""
    return next((entry.name for entry in HELD_OUT_MEASURES.values() if kind in entry.default_for), None)


def fitting(kind: ModelKind) -> list[str]:
    """The measures that a kind of model has the head for."""
    return [entry.name for entry in HELD_OUT_MEASURES.values() if kind in entry.model_kinds]
