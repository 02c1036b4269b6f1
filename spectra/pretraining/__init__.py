"""Small base models that this project pre-trains itself, on the texts of assets: nothing of them is downloaded."""

from spectra.pretraining.pretrain import make
from spectra.pretraining.recipe import RECIPES, Recipe, Source, recipe_of

__all__ = ["RECIPES", "Recipe", "Source", "make", "recipe_of"]
