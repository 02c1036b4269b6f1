"""Recipes of base models: which texts, which size, how long. A change of a recipe is a new version of its asset."""

from dataclasses import dataclass
from typing import Literal

from spectra.assets import asset
from spectra.data.asset_tasks import ASSET_TASKS
from spectra.errors import AssetError
from spectra.training.settings import TrainingSettings

Storage = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Source:
    """Texts of one task: all of its train split is learnt.

    Attributes:
        task: Name of a task of plain texts.
        validation: Texts of its validation split that the loss is followed on while training.
        test: Texts of its test split that the finished model is measured on.
    """

    task: str
    validation: int
    test: int

    @property
    def licence(self) -> str:
        """Of the texts; those of a task that is registered elsewhere are the maker's to know."""
        return asset(ASSET_TASKS[self.task].asset).licence if self.task in ASSET_TASKS else "not stated"


@dataclass(frozen=True)
class Recipe:
    """How a small Llama with tied embeddings is pre-trained from random weights.

    Attributes:
        name: Of the asset that comes of it.
        sources: What it learns.
        vocabulary: Entries of its byte-level tokenizer, which is trained on the same train splits.
        hidden_size: Width of the residual stream.
        intermediate_size: Width of the MLP.
        layers: Blocks of seven matrices each.
        heads: Attention heads.
        steps: Optimiser steps.
        batch_size: Blocks of tokens per step.
        max_length: Tokens per block.
        learning_rate: Peak of a cosine schedule.
        storage: Type that the weights are stored in.
        seed: Of the weights and of the order of the blocks.
    """

    name: str
    sources: tuple[Source, ...]
    vocabulary: int
    hidden_size: int = 256
    intermediate_size: int = 688
    layers: int = 4
    heads: int = 4
    steps: int = 2000
    batch_size: int = 16
    max_length: int = 128
    learning_rate: float = 2e-3
    storage: Storage = "float32"
    seed: int = 0

    def settings(self, base: str) -> TrainingSettings:
        """The training of all weights of `base`, the randomly initialised model."""
        return TrainingSettings(
            base=base,
            method="full",
            learning_rate=self.learning_rate,
            seed=self.seed,
            steps=self.steps,
            batch_size=self.batch_size,
            max_length=self.max_length,
            schedule="cosine",
            warmup=0.05,
            weight_decay=0.1,
            evaluate_every=max(1, self.steps // 10),
        )


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "tiny-lm",
            (Source("brown", 8, 20), Source("bbc-news", 30, 100), Source("wordnet-glosses", 400, 2000)),
            vocabulary=4096,
        ),
        Recipe(
            "demo-lm",
            (Source("wordnet-glosses", 400, 2000), Source("python-docs", 50, 150)),
            vocabulary=2048,
            hidden_size=128,
            intermediate_size=344,
            steps=1200,
            learning_rate=3e-3,
            storage="bfloat16",
        ),
    )
}


def recipe_of(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        AssetError: If there is none.
    """
    if name in RECIPES:
        return RECIPES[name]
    raise AssetError(
        f"There is no recipe for {asset(name).name!r}: only {' and '.join(RECIPES)} are pre-trained here. "
        f"Run `spectra assets fetch {name}`."
    )
