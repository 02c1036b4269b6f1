"""Tiny models and tasks built on the spot: seconds to train, nothing to download."""

import json
import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertModel,
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

GOOD = ("good", "lovely", "fine", "great", "sunny")
BAD = ("bad", "awful", "poor", "dull", "grey")
OTHER = tuple(f"w{number}" for number in range(30))
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[EOS]")


def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *GOOD, *BAD, *OTHER, "\n"))}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        eos_token="[EOS]",
        model_max_length=64,
    )


def save_model(folder: Path, family: str, seed: int = 0) -> str:
    """Write a tiny model of a family and its tokenizer; returns the folder as a reference."""
    torch.manual_seed(seed)
    words = tokenizer()
    size = len(words)
    wide = {
        "vocab_size": size,
        "hidden_size": 16,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "initializer_range": 0.2,
    }
    common = {"pad_token_id": 0, "eos_token_id": 4, "bos_token_id": 2}
    model = {
        "bert": lambda: BertModel(BertConfig(**wide, intermediate_size=32, max_position_embeddings=64)),
        "llama": lambda: LlamaForCausalLM(
            LlamaConfig(**wide, **common, intermediate_size=32, num_key_value_heads=1, max_position_embeddings=64)
        ),
        "gpt2": lambda: GPT2LMHeadModel(
            GPT2Config(**common, initializer_range=0.2, vocab_size=size, n_embd=16, n_layer=2, n_head=2, n_positions=64)
        ),
        "bloom": lambda: BloomForCausalLM(
            BloomConfig(**common, initializer_range=0.2, vocab_size=size, hidden_size=16, n_layer=2, n_head=2)
        ),
        "t5": lambda: T5ForConditionalGeneration(
            T5Config(
                vocab_size=size, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2,
                pad_token_id=0, eos_token_id=4, decoder_start_token_id=0,
            )
        ),
    }[family]()  # fmt: skip
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return str(folder)


def _texts(rows: int, seed: int) -> list[tuple[str, str]]:
    drawn = random.Random(seed)
    pairs = []
    for _ in range(rows):
        label, words = drawn.choice([("good", GOOD), ("bad", BAD)])
        text = [*drawn.choices(OTHER, k=drawn.randint(3, 8)), *drawn.choices(words, k=2)]
        drawn.shuffle(text)
        pairs.append((" ".join(text), label))
    return pairs


def save_sentiment(path: Path, rows: int = 240, seed: int = 0) -> str:
    """A classification task that a tiny model learns: a text holds good words or bad ones."""
    return _save(path, [{"text": text, "label": label} for text, label in _texts(rows, seed)])


def save_answers(path: Path, rows: int = 120, seed: int = 0) -> str:
    """A task of sources and targets: name the sentiment."""
    return _save(path, [{"source": text, "target": label} for text, label in _texts(rows, seed)])


def save_prose(path: Path, rows: int = 200, seed: int = 0) -> str:
    """Plain texts."""
    return _save(path, [{"text": f"{text} {label}"} for text, label in _texts(rows, seed)])


def _save(path: Path, rows: list[dict[str, str]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def study(folder: Path) -> dict[str, Any]:
    """A study of two methods, two seeds and a few steps."""
    heldout = save_prose(folder / "heldout.jsonl", 100, seed=5)
    return {
        "title": "A tiny study",
        "base": save_model(folder / "llama", "llama"),
        "task": save_answers(folder / "task.jsonl", 100),
        "heldout": [{"task": f"{heldout}:lm-loss", "max_length": 16}],
        "methods": [
            {"method": "full", "learning_rate": 1e-2},
            {"method": "lora", "rank": [4], "learning_rate": 5e-2},
        ],
        "seeds": [0, 1],
        "steps": 5,
        "batch_size": 4,
        "max_length": 16,
        "trajectory": 2,
        "k": 3,
        "epsilon": 0.9,
        "study": {"interventions": {"lambdas": [0.0], "controls": ["shrink"], "resamples": 200, "test_examples": 7}},
    }
