"""Tiny models of every kind with a word tokenizer that has a mask token, built from their configurations."""

import random
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from spectra.data import TaskData
from spectra.forgetting import HeldOut

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[EOS]")
WORDS = tuple(f"w{number}" for number in range(40))


def tokenizer(*, framed: bool = False) -> PreTrainedTokenizerFast:
    """Words at spaces; `framed` puts [CLS] and [SEP] around a text, as BERT does."""
    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *WORDS, "good", "bad", "answer:"))}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if framed:
        words.post_processor = processors.TemplateProcessing(
            "[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    named = {"pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]", "eos_token": "[EOS]"}
    return PreTrainedTokenizerFast(tokenizer_object=words, **named, cls_token="[CLS]", sep_token="[SEP]")


SIZE = len(tokenizer())
WIDE = {"vocab_size": SIZE, "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "pad_token_id": 0}
BERT = {**WIDE, "intermediate_size": 32, "max_position_embeddings": 64, "initializer_range": 0.3}


def llama(seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    config = LlamaConfig(
        **WIDE, intermediate_size=32, num_key_value_heads=1, eos_token_id=5, bos_token_id=2, initializer_range=0.3
    )
    return LlamaForCausalLM(config).eval()


def masked_bert(seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    return BertForMaskedLM(BertConfig(**BERT)).eval()


def classifying_bert(seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    return BertForSequenceClassification(BertConfig(**BERT, num_labels=2)).eval()


def t5(seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=SIZE, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2,
        pad_token_id=0, eos_token_id=5, decoder_start_token_id=0,
    )  # fmt: skip
    model = T5ForConditionalGeneration(config)
    with torch.no_grad():  # as T5 initialises itself, such a small one only ever writes padding
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
    return model.eval()


def with_lora(model: PreTrainedModel, *, targets: list[str], scale: float = 0.5, **config: object) -> PeftModel:
    """Put a LoRA on a model whose B is not zero, so that it changes the output."""
    adapted = get_peft_model(model, LoraConfig(r=2, lora_alpha=4, target_modules=targets, **config))  # type: ignore[arg-type]
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=scale)
    return adapted.eval()


def save(folder: Path, model: PreTrainedModel | PeftModel, *, framed: bool = False) -> str:
    model.save_pretrained(folder)
    if not isinstance(model, PeftModel):
        tokenizer(framed=framed).save_pretrained(folder)
    return str(folder)


def texts(n: int, seed: int = 0) -> list[str]:
    """Texts of 2 to 12 words."""
    drawn = random.Random(seed)
    return [" ".join(drawn.choices(WORDS, k=drawn.randint(2, 12))) for _ in range(n)]


def prose(n: int = 12, **settings: object) -> HeldOut:
    rows = Dataset.from_dict({"text": texts(n)})
    return _held_out(TaskData("prose", "causal-lm", rows, rows, rows, (), "prose", "test"), "lm-loss", settings)


def sentiment(measure: str, n: int = 30, **settings: object) -> HeldOut:
    def rows(seed: int) -> Dataset:
        labels = [i % 2 for i in range(n)]
        named = [
            f"{text} " + " ".join([("bad", "good")[label]] * 4)
            for text, label in zip(texts(n, seed), labels, strict=True)
        ]
        return Dataset.from_dict({"text": named, "label": labels})

    data = TaskData("sentiment", "classification", rows(1), rows(2), rows(3), ("bad", "good"), "sentiment", "test")
    return _held_out(data, measure, settings)


def summaries(n: int = 6, targets: list[str] | None = None, **settings: object) -> HeldOut:
    rows = Dataset.from_dict({"source": texts(n), "target": targets or texts(n, seed=5)})
    return _held_out(TaskData("summaries", "seq2seq", rows, rows, rows, (), "summaries", "test"), "rouge-l", settings)


def _held_out(data: TaskData, measure: str, settings: dict[str, object]) -> HeldOut:
    chosen = settings.pop("measure", measure)
    return HeldOut(name=f"{data.name}:{chosen}", measure=chosen, data=data, **settings)  # type: ignore[arg-type]
