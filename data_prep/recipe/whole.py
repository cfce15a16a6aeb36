"""The recipe: what raw text is read and what is done to it. One documented field is one setting.

Relative paths of inputs (`sources.*.paths`, `tokenizer.vocab`, `tokenizer.merges`, `tokenizer.load`) start from `root`;
`root` and `out` themselves start from the current directory, in the file and on the command line alike. `~` and
environment variables are not expanded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from data_prep.recipe.blend import BlendRule, blend_problems
from data_prep.recipe.clean import Clean
from data_prep.recipe.cluster import Cluster, cluster_problems
from data_prep.recipe.decontaminate import Decontaminate, decontaminate_problems
from data_prep.recipe.dedup import Dedup, dedup_problems
from data_prep.recipe.extract import Extract, Language
from data_prep.recipe.filter import Filter
from data_prep.recipe.kinds import Count, Positive, as_tuple
from data_prep.recipe.quality import Quality, quality_problems
from data_prep.recipe.read import Read
from data_prep.recipe.source import PYTHON_FORMATS, Source
from data_prep.recipe.tokens import Tokenize, TokenizerRecipe, tokenizer_problems
from megatron_nlg.config.base import Section, apply_overrides, build, read_yaml
from megatron_nlg.config.errors import ConfigError, InputError, Problem


class Recipe(Section):
    """A whole preparation."""

    out: str
    """Folder of the prepared corpus, from the current directory."""
    root: str = "."
    """Folder that relative input paths start from; itself from the current directory."""
    sources: Annotated[tuple[Source, ...], BeforeValidator(as_tuple), Field(min_length=1)]
    """In order of priority: of duplicates in two sources the earlier source's survives."""
    read: Read = Read()
    """When to stop over records that can't be read."""
    extract: Extract | None = None
    """Text of HTML documents; `{}` for jusText, null leaves them HTML."""
    language: Language | None = None
    """Language identification; `{}` keeps English, null looks at none."""
    clean: Clean = Clean()
    """Text repair and length rules."""
    filter: Filter | None = None
    """Heuristics of quality; `{}` for the published limits, null for none."""
    quality: Quality | None = None
    """A trained classifier; null for none."""
    dedup: Dedup = Dedup()
    """Exact and fuzzy deduplication, over all sources at once."""
    decontaminate: Decontaminate = Decontaminate()
    """Evaluation examples cut out."""
    tokenizer: TokenizerRecipe
    """Trained or given."""
    tokenize: Tokenize = Tokenize()
    """Documents to tokens."""
    blend: BlendRule = BlendRule()
    """Weights of the sources, and the report of them."""
    seed: Count = 1234
    """Of the min-hash permutations."""
    processes: Count = 0
    """Worker processes; 0 for all cores. No output depends on it."""
    cluster: Cluster | None = None
    """Many machines in place of this one's processes. No output depends on it."""
    shard_bytes: Positive = 64 << 20
    """Text in a shard, and input in a unit of work that is resumed as a whole."""

    def input_path(self, path: str) -> Path:
        """A path of the recipe from the current directory."""
        return Path(self.root) / path


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe with its overrides, or raise a ConfigError that lists every problem.

    Items of `sources` are overridden by position or by name: `sources.0.weight=2`, `sources.books.weight=2`.
    """
    tree = _apply(read_yaml(path), overrides)
    recipe = build(Recipe, tree, str(path))
    problems = [
        *_source_problems(recipe),
        *_restriction_problems(recipe),
        *dedup_problems(recipe.dedup),
        *tokenizer_problems(recipe.tokenizer),
        *cluster_problems(recipe.cluster),
    ]
    problems += quality_problems(recipe.quality, [source.name for source in recipe.sources])
    problems += decontaminate_problems(recipe.decontaminate)
    problems += blend_problems(recipe.blend, [source.name for source in recipe.sources])
    if problems:
        raise ConfigError(problems, str(path))
    return recipe


def _apply(tree: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Overrides of single items of `sources` go through a mapping by position; the rest is plain."""
    for override in overrides:
        key = override.partition("=")[0].split(".")
        sources = tree.get("sources")
        if key[0] != "sources" or len(key) == 1 or not isinstance(sources, list):
            tree = apply_overrides(tree, [override])
            continue
        names = [item.get("name") if isinstance(item, dict) else None for item in sources]
        position = str(names.index(key[1])) if key[1] in names else key[1]
        if position not in map(str, range(len(sources))):
            known = ", ".join(str(name) for name in names)
            raise InputError(f"override {override!r}: no source {key[1]!r}; known: 0 to {len(sources) - 1}, {known}")
        items = dict(zip(map(str, range(len(sources))), sources, strict=True))
        rest = override.split(".", 2)[2] if len(key) > 2 else override.partition("=")[2]
        renamed = f"sources.{position}.{rest}" if len(key) > 2 else f"sources.{position}={rest}"
        items = apply_overrides({"sources": items}, [renamed])["sources"]
        tree = {**tree, "sources": list(items.values())}
    return dict(tree)


def _source_problems(recipe: Recipe) -> Iterator[Problem]:
    names = [source.name for source in recipe.sources]
    for i, source in enumerate(recipe.sources):
        if source.name in names[:i]:
            yield Problem(f"sources.{i}.name", f"{source.name!r} is given twice", "names must differ")
        reads_python = source.format in PYTHON_FORMATS
        if reads_python and source.paths:
            yield Problem(f"sources.{i}.paths", f"format {source.format} reads the Python installation", "leave it out")
        if not reads_python and not source.paths:
            yield Problem(f"sources.{i}.paths", "is required", "give files, folders or globs")


def _restriction_problems(recipe: Recipe) -> Iterator[Problem]:
    """Sections that are for some sources name these rightly."""
    known = [source.name for source in recipe.sources]
    for section in type(recipe).model_fields:
        for name in (section != "sources" and getattr(getattr(recipe, section), "sources", None)) or ():
            if name not in known:
                yield Problem(f"{section}.sources", f"no source {name!r}", f"known: {', '.join(known)}")
