"""QLoRA: a base whose frozen weights are held in 4 or 8 bits by bitsandbytes while an adapter is trained.

The adapter is trained against the quantised weights and saved as any other. What it is compared with and measured on
afterwards is the published base, so that all trials of a sweep share their W0.
"""

from typing import Any

import torch

from spectra.errors import ModelError, needs
from spectra.models import LoadedModel, ModelKind, load_base
from spectra.training.modules import HEADS
from spectra.training.settings import TrainingSettings


def load_for_training(settings: TrainingSettings, kind: ModelKind, num_labels: int | None) -> LoadedModel:
    """The base of a training run, quantised if the settings say so.

    Raises:
        ModelError: If the model cannot be loaded, or bitsandbytes is not installed.
    """
    if settings.quantisation is None:
        return load_base(settings.base, kind, num_labels=num_labels, attention=settings.attention)
    from peft import prepare_model_for_kbit_training

    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        loaded = load_base(
            settings.base,
            kind,
            num_labels=num_labels,
            device=device,
            quantization_config=quantisation_config(settings),
            attention=settings.attention,
        )
    except ImportError as error:
        raise ModelError(needs(f"The quantisation '{settings.quantisation}'", "bitsandbytes", "quant")) from error
    prepare_model_for_kbit_training(
        loaded.model, use_gradient_checkpointing=settings.gradient_checkpointing
    )  # in place: frozen, norms and heads in float32
    return loaded


def quantisation_config(settings: TrainingSettings) -> Any:
    """transformers' configuration: 4-bit NormalFloat with double quantisation, or 8 bits; heads are left alone.

    Source: Dettmers et al. 2023, arXiv:2305.14314, section 3 (nf4); Dettmers et al. 2022, arXiv:2208.07339 (int8).
    """
    from transformers import BitsAndBytesConfig

    # By name and, for a head that stands deeper, by a regular expression on the whole name.
    untouched = [pattern for head in (*HEADS, "lm_head") for pattern in (head, rf"(?:.*\.)?{head}")]
    if settings.quantisation == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=untouched)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, settings.precision),
        llm_int8_skip_modules=untouched,
    )
