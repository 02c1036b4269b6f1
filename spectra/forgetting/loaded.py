"""A loaded model on held-out tasks, put under a pre-trained head for those that need one."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from spectra.forgetting.catalogue import HELD_OUT_MEASURES
from spectra.forgetting.held_out import HeldOut
from spectra.forgetting.measure import measure, measure_all
from spectra.forgetting.pseudo_loss import under_pretrained_head
from spectra.models import LoadedModel, ModelKind
from spectra.statistics.scores import Scores

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def measure_loaded(
    loaded: LoadedModel,
    held_out: Sequence[HeldOut],
    *,
    pretrained: "Callable[[], PreTrainedModel]",
    batch_size: int = 16,
    device: str | None = None,
) -> list[Scores]:
    """Scores in the order of the tasks.

    Args:
        loaded: The model, as it stands.
        held_out: Tasks and measures.
        pretrained: Gives the base with its masked-LM head; asked only where a pseudo-loss needs that head.
        batch_size: Sequences per forward pass.
        device: Moves the model there first; None leaves it where it is.

    Raises:
        DataError: If a task does not fit its measure.
        ModelError: If the model lacks a head, and no pre-trained one can stand in.
    """
    plain = [task for task in held_out if not needs_pretrained_head(loaded.kind, task)]
    settings: dict[str, Any] = {"batch_size": batch_size, "device": device}
    found = dict(zip(plain, measure_all(loaded.model, loaded.tokenizer, plain, **settings), strict=True))
    for task in held_out:
        if task not in found:
            with under_pretrained_head(pretrained(), loaded.model) as whole:
                found[task] = measure(whole, loaded.tokenizer, task, **settings)
    return [found[task] for task in held_out]


def needs_pretrained_head(kind: ModelKind, task: HeldOut) -> bool:
    """Whether a body without a masked-LM head has to be put under the base's for this task."""
    return kind in HELD_OUT_MEASURES[task.measure].pretrained_head
