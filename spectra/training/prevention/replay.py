"""Other text in every batch: the strong baseline of every method against forgetting."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from spectra.data import TaskData, load_task
from spectra.errors import DataError, ModelError, SpectrumError
from spectra.training.method import Method, lora_config
from spectra.training.prevention.moment import Moment
from spectra.training.prevention.rule import UpdateRule, require_number
from spectra.training.settings import TrainingSettings

if TYPE_CHECKING:
    from transformers import Trainer

MAX_LENGTH = 128


class Replay(UpdateRule):
    """A share of the examples of every training batch is replaced by blocks of other text, with the loss on all of it.

    The batch keeps its size, so a step costs what it did and sees less of the task. Which blocks come, and where the
    share is no whole number of examples whether one more does, is drawn by the seed and the batch's own tokens: a
    training that is resumed sees the same. Validation batches are left alone.

    Source: rehearsal, Robins 1995, Connection Science 7(2); as a share of pre-training-like text e.g. Scialom et al.
        2022, arXiv:2205.12393. Difference: none.
    """

    def __init__(
        self,
        texts: str | Sequence[str],
        share: float | int = 0.25,
        *,
        max_length: int = MAX_LENGTH,
        seed: int = 0,
    ) -> None:
        """Say what is replayed.

        Args:
            texts: The texts, or the name of a task of plain texts, whose training split is taken. They should come
                from elsewhere than what forgetting is measured on.
            share: Of the examples of a batch, above 0 and below 1.
            max_length: Tokens per block.
            seed: Of the draws.

        Raises:
            SpectrumError: If a setting has no meaning.
            DataError: If there is no such task, or it has no plain texts.
        """
        self.share = require_number("share", share, above=0)
        if self.share >= 1:
            raise SpectrumError(f"share is {share!r}. Give a number below 1, for the task itself has to be learnt.")
        self.texts = replayed_texts(texts) if isinstance(texts, str) else list(texts)
        if not self.texts:
            raise DataError("There is no text to replay. Give at least one.")
        self.max_length, self.seed = max_length, seed

    def attach(self, trainer: "Trainer") -> "Replay":
        """Replace part of every training batch; call it before `trainer.train()`.

        Raises:
            ModelError: If the Trainer has no tokenizer, or its model is no language model.
            DataError: If the texts give no block of two tokens.
        """
        from spectra.training.families import encode, text_rows
        from spectra.training.prevention.batches import ReplayInBatches

        tokenizer = getattr(trainer, "processing_class", None)
        if tokenizer is None or not callable(tokenizer):
            raise ModelError("The Trainer has no tokenizer to cut the replayed texts with. Give it processing_class.")
        if getattr(trainer.model, "get_output_embeddings", lambda: None)() is None:
            raise ModelError(
                "Replay mixes plain text into the batches of a causal language model, and this model has no head that "
                "predicts tokens. Use another rule."
            )
        cut = encode(text_rows(self.texts), "causal-lm", tokenizer, self.max_length).examples
        whole = [block for block in cut if len(block["input_ids"]) == self.max_length]
        trainer.add_callback(ReplayInBatches(self.share, self.seed, whole or list(cut)))
        return self

    def begin(self, model: nn.Module) -> None:
        """Batches change, weights do not."""

    def keep(self, moment: Moment) -> None:
        """Batches change, weights do not."""


def replayed_texts(task: str | dict[str, Any]) -> list[str]:
    """The training split of a task of plain texts.

    Raises:
        DataError: If it has none.
    """
    return list(replayed_task(task).train["text"])


def replayed_task(task: Any) -> TaskData:
    """The task whose training split is replayed.

    Raises:
        DataError: If it has no plain texts.
    """
    data = load_task(task)
    if "text" not in data.train.column_names:
        raise DataError(
            f"Task '{data.name}' has sources and targets, and plain text is replayed. Choose a task of plain texts."
        )
    return data


def _rule(settings: TrainingSettings) -> Replay:
    given = dict(settings.arguments)
    if not isinstance(given.get("task"), str | dict):
        raise SpectrumError("Method replay needs the task whose texts it replays. Add task to its arguments.")
    share = {"share": given["share"]} if "share" in given else {}
    return Replay(replayed_texts(given["task"]), **share, max_length=settings.max_length, seed=settings.seed)


METHOD = Method(
    "replay",
    "LoRA with a share of other text in every batch of a language model.",
    lora_config(),
    title="Replay",
    own_arguments=("task", "share"),
    rule=_rule,
    text_arguments=("task",),
)
FULL = Method(
    "full-replay",
    "Full fine-tuning with a share of other text in every batch of a language model.",
    None,
    has_rank=False,
    has_alpha=False,
    title="full replay",
    own_arguments=("task", "share"),
    rule=_rule,
    text_arguments=("task",),
)
