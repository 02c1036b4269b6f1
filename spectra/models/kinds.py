"""The kinds of model, the classes that load them, and how a checkpoint's configuration names its kind."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Model: TypeAlias = "PreTrainedModel | PeftModel"
ModelKind = Literal["encoder", "classification", "causal-lm", "masked-lm", "seq2seq"]

CLASSES: dict[ModelKind, str] = {
    "encoder": "AutoModel",
    "classification": "AutoModelForSequenceClassification",
    "causal-lm": "AutoModelForCausalLM",
    "masked-lm": "AutoModelForMaskedLM",
    "seq2seq": "AutoModelForSeq2SeqLM",
}
KIND_OF_TASK_TYPE: dict[str, ModelKind] = {
    "SEQ_CLS": "classification",
    "CAUSAL_LM": "causal-lm",
    "SEQ_2_SEQ_LM": "seq2seq",
    "FEATURE_EXTRACTION": "encoder",
}
KIND_OF_ARCHITECTURE: dict[str, ModelKind] = {
    "ForSequenceClassification": "classification",
    "ForCausalLM": "causal-lm",
    "LMHeadModel": "causal-lm",
    "ForMaskedLM": "masked-lm",
    "ForConditionalGeneration": "seq2seq",
}


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model, its tokenizer, and the reference it was loaded from.

    Attributes:
        model: The model, in evaluation mode.
        tokenizer: Its tokenizer.
        reference: What it was loaded from.
        kind: Which head it carries.
        random_head: Weights of the head that no file holds: what it answers is luck until it is trained.
    """

    model: Model
    tokenizer: "PreTrainedTokenizerBase"
    reference: str
    kind: ModelKind
    random_head: tuple[str, ...] = ()


def class_of(kind: ModelKind) -> Any:
    """The class of transformers that loads models of a kind; imported here, for that takes seconds."""
    import transformers

    return getattr(transformers, CLASSES[kind])


def body_of(model: Model) -> "PreTrainedModel":
    """The model without its head, adapters included: what turns tokens into features."""
    from peft import PeftModel

    unwrapped = model.get_base_model() if isinstance(model, PeftModel) else model
    return cast("PreTrainedModel", unwrapped.base_model)


def kind_of_architecture(name: str) -> ModelKind:
    """The kind of a class name such as "LlamaForCausalLM"; a class without a known head is an encoder."""
    return next((kind for ending, kind in KIND_OF_ARCHITECTURE.items() if name.endswith(ending)), "encoder")
