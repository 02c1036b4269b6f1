"""Whether a model predicts from the left alone: a loss over next tokens means something of such a model only."""

from typing import Any

import torch

from spectra.errors import ModelError
from spectra.models.kinds import Model


def require_causal_architecture(config: Any, reference: str) -> None:
    """Refuse an encoder by its configuration, before any weight is read.

    Transformers puts a language-modelling head on BERT's relatives as well, and then every token sees the one that it
    is to predict.

    Raises:
        ModelError: If the model reads in both directions.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    if config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False):
        raise ModelError(
            f"'{reference}' is a {config.model_type} model, which reads a text in both directions: a loss over next "
            "tokens would let it see what it predicts. Choose a decoder-only base, or a task with labels."
        )


def require_causal(model: Model, reference: str) -> None:
    """Refuse a model whose outputs depend on later tokens, by trying; the model is in evaluation mode.

    Cost: one forward pass over two short rows.

    Raises:
        ModelError: If they do.
    """
    size = int(model.config.vocab_size)
    first, second = min(5, size - 1), min(6, size - 1)
    ids = torch.tensor([[first] * 4, [*[first] * 3, second]], device=model.device)
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.float()
    early, late = (logits[0, at] - logits[1, at] for at in (2, 3))
    if float(early.abs().max()) > 1e-2 * float(late.abs().max()):
        raise ModelError(
            f"'{reference}' as {type(model).__name__} predicts a token from later ones: it reads in both directions, "
            "and a loss over next tokens would mean nothing. Choose a decoder-only model, or another measure."
        )
