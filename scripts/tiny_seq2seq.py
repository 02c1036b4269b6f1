"""A tiny T5 that names topics, then learns to name sentiments:  python scripts/tiny_seq2seq.py FOLDER

Writes FOLDER/topics.jsonl (held out), FOLDER/sentiment.jsonl (tuned on), the base FOLDER/base, and the sweep
FOLDER/tuned with a full and a LoRA checkpoint at large learning rates, for `spectra forget`, `intervene`, `mitigate`.
Words are drawn at random: what follows shows that the chain works on an encoder-decoder, nothing about language.
"""

import json
import random
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from spectra import run_sweep

TOPICS = {
    "open water": ["boat", "wave", "sail", "harbour", "tide"],
    "busy streets": ["street", "tower", "bus", "market", "lamp"],
    "green fields": ["barn", "plough", "seed", "fence", "crow"],
}
SENTIMENT = {
    "very good": ["good", "lovely", "fine", "great", "sunny"],
    "rather bad": ["bad", "awful", "poor", "dull", "grey"],
}
OTHER = [f"w{number}" for number in range(30)]
SPECIAL = ["[PAD]", "[UNK]", "[EOS]"]
SHARED = {"batch_size": 16, "max_length": 16, "keep": "all", "test_examples": 300}


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    topics = texts(folder / "topics.jsonl", TOPICS, 3000, seed=1)
    sentiment = texts(folder / "sentiment.jsonl", SENTIMENT, 3000, seed=2)
    full = {"method": "full", "learning_rate": 3e-3}
    first = {"base": random_model(folder / "random"), "task": topics, "methods": [full], "steps": 400}
    pretrained = run_sweep({**first, **SHARED}, folder / "pretraining", executor="inline")
    base = shutil.copytree(pretrained.trials()[0].weights or "", folder / "base", dirs_exist_ok=True)
    specification = {
        "title": "A tiny T5 that names topics learns to name sentiments",
        "base": str(base),
        "task": sentiment,
        "heldout": [{"task": f"{topics}:rouge-l", "max_length": 16, "limit": 300, "max_new_tokens": 4}],
        "methods": [
            {**full, "learning_rate": 1e-3},
            {"method": "lora", "rank": [1, 8], "learning_rate": {1: 2e-2, 8: 1e-2}},
        ],
        "steps": 100,
    }
    run = run_sweep({**specification, **SHARED}, folder / "tuned", executor="inline")
    print(run.table("trials")[["trial", "label", "learning_rate", "task_score", "count"]].to_string(index=False))


def texts(path: Path, words: Mapping[str, Sequence[str]], rows: int, seed: int) -> str:
    """Sources of random words, two of them of one class and one of any; the target is the name of the class."""
    drawn = random.Random(seed)
    distractors = [word for group in words.values() for word in group]
    lines = []
    for _ in range(rows):
        name = drawn.choice(list(words))
        source = [*drawn.choices(OTHER, k=drawn.randint(3, 8)), *drawn.choices(words[name], k=2)]
        source.append(drawn.choice(distractors))
        drawn.shuffle(source)
        lines.append(json.dumps({"source": " ".join(source), "target": name}))
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def random_model(folder: Path) -> str:
    """A randomly initialised T5 of two layers, 64 wide, and its tokenizer of whole words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    classes = {**TOPICS, **SENTIMENT}
    words = [*SPECIAL, *OTHER, *dict.fromkeys(word for name in classes for word in [*name.split(), *classes[name]])]
    splitter = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    splitter.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    splitter.post_processor = processors.TemplateProcessing(single="$A [EOS]", special_tokens=[("[EOS]", 2)])
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[EOS]"}
    PreTrainedTokenizerFast(tokenizer_object=splitter, model_max_length=32, **names).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
    ids = {"pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0}
    T5ForConditionalGeneration(T5Config(vocab_size=len(words), **sizes, **ids)).save_pretrained(folder)
    return str(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
