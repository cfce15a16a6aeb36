"""The recipe: one file a section, `whole.py` for all of it."""

from data_prep.recipe.blend import BlendRule
from data_prep.recipe.clean import Clean
from data_prep.recipe.cluster import Cluster
from data_prep.recipe.decontaminate import Decontaminate
from data_prep.recipe.dedup import Dedup
from data_prep.recipe.extract import Extract, Language
from data_prep.recipe.filter import Filter
from data_prep.recipe.quality import Quality
from data_prep.recipe.read import Read
from data_prep.recipe.source import PYTHON_FORMATS, Source
from data_prep.recipe.tokens import Tokenize, TokenizerRecipe
from data_prep.recipe.whole import Recipe, load_recipe

__all__ = [
    "PYTHON_FORMATS",
    "BlendRule",
    "Clean",
    "Cluster",
    "Decontaminate",
    "Dedup",
    "Extract",
    "Filter",
    "Language",
    "Quality",
    "Read",
    "Recipe",
    "Source",
    "Tokenize",
    "TokenizerRecipe",
    "load_recipe",
]
