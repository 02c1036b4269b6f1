"""A small causal model and tuned checkpoints whose forgetting has a known cause.

Half the units of each MLP are dead: nothing ever reaches their columns of down_proj, so that whatever an update does
there is without effect. Texts are sampled from the base itself, which is therefore the best model of them: any change
of its function is forgetting.

The update of every down_proj is  y s v^T + U0 diag(d) P^T:  an intruder y, spread evenly over all left singular vectors
of W0, and amplifications of W0's own left vectors, which are no intruders. One of the two has its right vectors on the
live units and the other on the dead ones, so that one makes all the difference and the other is mere norm.
"""

import json
from pathlib import Path
from typing import Literal

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests import tiny

WIDTH, UNITS, LAYERS = 32, 96, 2
LIVE = UNITS // 2
INTRUDER, AMPLIFIED = 6.0, 5.0
Cause = Literal["intruder", "rest"]


def save_base(folder: Path) -> Path:
    """The base, its tokenizer, and texts sampled from it as texts.txt."""
    torch.manual_seed(0)
    words = tiny.tokenizer()
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words), hidden_size=WIDTH, intermediate_size=UNITS, num_hidden_layers=LAYERS,
            num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64, initializer_range=0.3,
            pad_token_id=0, bos_token_id=2, eos_token_id=4,
        )
    ).eval()  # fmt: skip
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.up_proj.weight[LIVE:] = 0
            layer.mlp.down_proj.weight[:, LIVE:] = 0
    model.save_pretrained(folder / "base")
    words.save_pretrained(folder / "base")
    save_texts(model, folder / "texts.jsonl", seed=1)
    return folder / "base"


def save_texts(model: LlamaForCausalLM, path: Path, seed: int, rows: int = 1000, length: int = 10) -> str:
    """Texts that the model itself writes, of words that survive the way through the tokenizer."""
    words = tiny.tokenizer()
    torch.manual_seed(seed)
    silent = [words.convert_tokens_to_ids(token) for token in (*tiny.SPECIAL, "\n")]
    ids = torch.randint(len(tiny.SPECIAL), len(words) - 1, (rows, 1))
    with torch.no_grad():
        while ids.shape[1] < length:
            logits = model(ids).logits[:, -1]
            logits[:, silent] = -torch.inf
            ids = torch.cat([ids, torch.multinomial(logits.softmax(-1), 1)], dim=1)
    texts = [" ".join(words.convert_ids_to_tokens(row)) for row in ids.tolist()]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


def save_tuned(base: Path, folder: Path, cause: Cause) -> Path:
    """A full checkpoint whose forgetting comes from the intruder, or from all the rest, of its update."""
    model = LlamaForCausalLM.from_pretrained(base).eval()
    with torch.no_grad():
        for layer in model.model.layers:
            weight = layer.mlp.down_proj.weight
            weight += planted_update(weight.double(), cause).float()
    model.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def planted_update(W0: torch.Tensor, cause: Cause) -> torch.Tensor:
    U0, _, Vh0 = torch.linalg.svd(W0)
    y = U0.sum(1) / WIDTH**0.5
    unit = torch.zeros(UNITS, dtype=W0.dtype)
    spread = torch.zeros(WIDTH, UNITS, dtype=W0.dtype)
    # The right vector of the intruder is one that W0 does not read, so that W0 leaves y where it is.
    live = Vh0[WIDTH:, :LIVE].double()
    direction = torch.linalg.svd(live)[2][0]
    generator = torch.Generator().manual_seed(3)
    frame = torch.linalg.qr(torch.randn(LIVE, WIDTH, generator=generator, dtype=W0.dtype))[0].mT
    if cause == "intruder":
        unit[:LIVE] = direction
        spread[:, LIVE:] = frame
    else:
        unit[LIVE] = 1.0
        spread[:, :LIVE] = frame
    amplified = torch.linspace(1.0, 0.8, WIDTH, dtype=W0.dtype) * AMPLIFIED
    return INTRUDER * torch.outer(y, unit) + (U0 * amplified) @ spread
