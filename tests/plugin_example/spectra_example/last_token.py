"""A held-out measure: how well a causal model predicts the last token of each text."""

import numpy as np
import torch

from spectra.forgetting import HeldOut, HeldOutMeasure, Scores
from spectra.statistics.scores import fingerprint


def last_token(model, tokenizer, held_out: HeldOut, *, batch_size: int) -> Scores:
    """loss = -ln softmax(logits / temperature)[x_T], logits at x_<T: one value per text, in nats."""
    temperature = held_out.options["temperature"]
    texts = held_out.test_texts()
    losses = []
    for text in texts:
        ids = tokenizer(text, truncation=True, max_length=held_out.max_length, return_tensors="pt")["input_ids"]
        ids = ids.to(model.device)
        logits = model(input_ids=ids).logits[0, -2].float() / temperature
        losses.append(-float(torch.log_softmax(logits, -1)[ids[0, -1]]))
    return Scores(
        task=held_out.name,
        metric="last-token",
        unit="nats",
        values=np.array(losses),
        weights=np.ones(len(losses)),
        score_name="loss",
        score=float(np.mean(losses)),
        fingerprint=fingerprint({"measure": "last-token", "temperature": temperature}, texts),
    )


LAST_TOKEN = HeldOutMeasure(
    "last-token",
    "loss of the last token of each text, nats",
    last_token,
    model_kinds=("causal-lm",),
    options={"temperature": 1.0},
)
