"""Runs as functions that return a complete, frozen config: `mini` is ours, `paper` holds the paper's."""

from headlift_trainer.recipes.config import LossWeights, RecipeConfig
from headlift_trainer.recipes.mini import DecoderStage, MiniRecipe, mini
from headlift_trainer.recipes.paper import RECIPES

__all__ = ["RECIPES", "DecoderStage", "LossWeights", "MiniRecipe", "RecipeConfig", "mini"]
