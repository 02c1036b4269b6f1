"""What a pre-training starts from: a tokenizer trained on the texts, and random weights."""

from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from spectra.errors import AssetError
from spectra.pretraining.recipe import Recipe

PAD, END = "<pad>", "<end>"
POSITIONS = 512


def write_random_model(recipe: Recipe, texts: Iterable[str], folder: Path) -> None:
    """Write the randomly initialised model of a recipe and its tokenizer.

    Raises:
        AssetError: If the texts are too few for the vocabulary.
    """
    tokenizer = byte_level_tokenizer(texts, recipe.vocabulary)
    if len(tokenizer) < recipe.vocabulary:
        raise AssetError(
            f"The texts of '{recipe.name}' give {len(tokenizer)} tokens of the {recipe.vocabulary} that its recipe "
            "asks for. Give it more texts or a smaller vocabulary."
        )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=recipe.vocabulary,
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def byte_level_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-pair encoding (Sennrich et al. 2016) over bytes: every text can be written in it, code as well as prose.

    The same texts in the same order give the same vocabulary.
    """
    encoding = Tokenizer(models.BPE())
    encoding.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    encoding.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    encoding.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=encoding, pad_token=PAD, eos_token=END, model_max_length=POSITIONS)
