"""A run folder within a minute, for when there is none: a tiny BERT that first learns topics, then sentiment.

Words are drawn at random, so every figure drawn from it shows how to read a run and nothing about real models.
"""

import json
import random
import warnings
from pathlib import Path

from spectra import run_sweep
from spectra.runs import Run

# The kernel has no widgets; progress is not shown anyway.
warnings.filterwarnings("ignore", message="IProgress not found")

SENTIMENT = {"good": "good lovely fine great sunny".split(), "bad": "bad awful poor dull grey".split()}
TOPICS = {
    "sea": "boat wave sail harbour tide".split(),
    "city": "street tower bus market lamp".split(),
    "field": "barn plough seed fence crow".split(),
}
OTHER = [f"w{number}" for number in range(30)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def tiny_run(folder: Path) -> Run:
    """Pre-train on topics, then sweep full fine-tuning and LoRA on sentiment with the topics held out."""
    from transformers import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    folder.mkdir(parents=True, exist_ok=True)
    topics = _texts(folder / "topics.jsonl", TOPICS, 1200, seed=1)
    sentiment = _texts(folder / "sentiment.jsonl", SENTIMENT, 1200, seed=2)
    shared = {"batch_size": 8, "max_length": 16}
    full = {"method": "full", "learning_rate": 3e-3}
    first = {"base": _random_model(folder / "random"), "task": topics, "methods": [full], "steps": 120}
    pretrained = run_sweep({**first, **shared, "keep": "all"}, folder / "pretraining", executor="inline")
    base = _body(pretrained.trials()[0].weights, folder / "base")
    low_rank = {"method": "lora", "rank": [1, 8], "learning_rate": {1: 5e-3, 8: 3e-3}}
    specification = {
        "title": "A tiny BERT learns sentiment and may forget topics",
        "base": base,
        "task": sentiment,
        "heldout": [{"task": f"{topics}:nearest-neighbour", "max_length": 16, "fit_limit": 200}],
        "methods": [{**full, "learning_rate": 1e-3}, low_rank],
        "steps": 150,
        **shared,
    }
    return run_sweep(specification, folder / "run", executor="inline")


def _body(checkpoint: Path, folder: Path) -> str:
    """Write the encoder of a classifier, without its head, as a base model."""
    from transformers import AutoTokenizer, BertModel

    BertModel.from_pretrained(checkpoint).save_pretrained(folder)
    AutoTokenizer.from_pretrained(checkpoint).save_pretrained(folder)
    return str(folder)


def _texts(path: Path, words: dict[str, list[str]], rows: int, seed: int) -> str:
    """A classification task as JSON lines: two words of the class among words of no class and one of any class."""
    drawn = random.Random(seed)
    distractors = [word for group in words.values() for word in group]
    lines = []
    for _ in range(rows):
        label = drawn.choice(list(words))
        text = [
            *drawn.choices(OTHER, k=drawn.randint(3, 8)),
            *drawn.choices(words[label], k=2),
            drawn.choice(distractors),
        ]
        drawn.shuffle(text)
        lines.append(json.dumps({"text": " ".join(text), "label": label}))
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def _random_model(folder: Path) -> str:
    """Write a randomly initialised BERT of two layers, 64 wide, and its tokenizer of whole words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = [*SPECIAL, *OTHER, *(word for group in (SENTIMENT, TOPICS) for w in group.values() for word in w)]
    splitter = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    splitter.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=splitter, model_max_length=32, **names).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = BertConfig(vocab_size=len(words), max_position_embeddings=32, initializer_range=0.1, **sizes)
    BertModel(config).save_pretrained(folder)
    return str(folder)
