"""A causal language model with a first language, and an adapter that taught it a second one, within half a minute.

Both languages have the same words; what may follow differs for every other one of them. So the second language
overwrites part of the first, and forgetting is large enough to be taken apart. Every figure drawn from it shows how to
ask, and nothing about real models.
"""

import json
import random
import warnings
from dataclasses import dataclass
from pathlib import Path

from spectra import run_sweep

# The kernel has no widgets; progress is not shown anyway.
warnings.filterwarnings("ignore", message="IProgress not found")

WORDS = [f"w{number:02}" for number in range(40)]
SPECIAL = ["[PAD]", "[UNK]", "[BOS]", "[EOS]"]
FOLLOWERS = 4
MAX_LENGTH = 24


@dataclass(frozen=True)
class Tiny:
    """Where everything lies.

    Attributes:
        base: The model of the first language.
        adapter: A LoRA of it, tuned on the second language.
        first: Texts of the first language that no model was trained on.
        second: Texts of the second language, split as the adapter saw them.
    """

    base: str
    adapter: str
    first: str
    second: str


def tiny_causal(folder: Path, *, rank: int = 4, learning_rate: float = 8e-3, steps: int = 80) -> Tiny:
    """Train the first language into a random model, then the second into an adapter."""
    base, second = tiny_base(folder)
    low_rank = {"method": "lora", "rank": rank, "learning_rate": learning_rate}
    tuned = run_sweep(
        {"base": base, "task": second, "methods": [low_rank], "steps": steps, "keep": "all", **SHARED},
        folder / "second",
        executor="inline",
    )
    first = _texts(folder / "heldout.jsonl", language=1, rows=800, seed=3)
    return Tiny(base, str(tuned.trials()[0].weights), first, second)


SHARED = {"batch_size": 16, "max_length": MAX_LENGTH}


def tiny_base(folder: Path) -> tuple[str, str]:
    """The model of the first language, and a file of texts in the second."""
    from transformers import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    folder.mkdir(parents=True, exist_ok=True)
    first = _texts(folder / "first.jsonl", language=1, rows=2000, seed=1)
    full = {"method": "full", "learning_rate": 5e-3}
    pretrained = run_sweep(
        {
            "base": _random_model(folder / "random"),
            "task": first,
            "methods": [full],
            "steps": 200,
            "keep": "all",
            **SHARED,
        },
        folder / "first",
        executor="inline",
    )
    return str(pretrained.trials()[0].weights), _texts(folder / "second.jsonl", language=2, rows=1500, seed=2)


def _texts(path: Path, language: int, rows: int, seed: int) -> str:
    """Random walks: each word is followed by one of a few, which the language decides."""
    shared, own = random.Random(0), random.Random(language)
    followers = {word: (own if number % 2 else shared).sample(WORDS, FOLLOWERS) for number, word in enumerate(WORDS)}
    drawn = random.Random(seed)
    lines = []
    for _ in range(rows):
        words = [drawn.choice(WORDS)]
        while len(words) < MAX_LENGTH - 2:
            words.append(drawn.choice(followers[words[-1]]))
        lines.append(json.dumps({"text": " ".join(words)}))
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def _random_model(folder: Path) -> str:
    """Write a randomly initialised Llama of two layers, 64 wide, and its tokenizer of whole words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = [*SPECIAL, *WORDS]
    splitter = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    splitter.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = dict(zip(("pad_token", "unk_token", "bos_token", "eos_token"), SPECIAL, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=splitter, model_max_length=64, **names).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64,
        initializer_range=0.1,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)
