"""The table of tasks: what each needs, and how its set is made."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from megatron_nlg.analysis.probing import coreference, entities, pairs, sentences
from megatron_nlg.analysis.probing.collection import Collection, read_collection
from megatron_nlg.analysis.probing.example import ProbingSet
from megatron_nlg.analysis.probing.rankers import Ranker, bm25
from megatron_nlg.analysis.probing.terms import count
from megatron_nlg.config.errors import InputError

TASKS = ("bm25", "tf", "relevance", "entities", "similarity", "coreference", "facts")
"""In the order of the report."""


@dataclass(frozen=True)
class Sources:
    """What the user has given: a folder, files, functions by name, and sizes."""

    collection: Path | None = None
    entities: Path | None = None
    similarity: Path | None = None
    coreference: Path | None = None
    facts: Path | None = None
    tagger: str | None = None
    embedder: str | None = None
    passage_words: int = 100
    limit: int = 4000
    seed: int = 0

    @cached_property
    def read(self) -> Collection:
        """The collection. Raises InputError where none was named."""
        if self.collection is None:
            raise InputError(
                "--collection: is missing; name a folder, or make one by `megatron-nlg analyze collection`"
            )
        return read_collection(self.collection, self.passage_words)

    @cached_property
    def ranker(self) -> Ranker:
        """BM25 of Lucene, whose scores are probed and whose passages are drawn."""
        return bm25(count(self.read.passages))

    def make(self, task: str) -> ProbingSet:
        """The set of a task. Raises InputError for what is missing or broken, naming option or line."""
        from_collection = {"bm25": pairs.bm25_scores, "tf": pairs.term_frequency, "relevance": pairs.relevance}
        if task in from_collection:
            return from_collection[task](self.read, self.ranker, self.limit, self.seed)
        if task == "entities":
            return self._entities()
        if task == "similarity":
            return self._similarity()
        path = getattr(self, task)
        if path is None:
            raise InputError(f"--task {task}: needs labels, which no rule gives; name a file by --{task}")
        if task == "facts":
            return sentences.facts(path, self.limit, self.seed, self.passage_words)
        return coreference.from_file(path, self.limit, self.seed)

    def _entities(self) -> ProbingSet:
        if self.entities:
            return entities.from_file(self.entities, self.limit, self.seed)
        if self.tagger:
            tag = function(self.tagger, "--tagger")
            return entities.from_tagger(tag, self.read.passages[: self.limit], self.limit, self.seed)
        raise InputError("--task entities: needs labels: name a file by --entities, or a --tagger module:function")

    def _similarity(self) -> ProbingSet:
        if self.similarity:
            return sentences.similarity(self.similarity, self.limit, self.seed)
        if self.embedder:
            embed = function(self.embedder, "--embedder")
            return pairs.embedded_similarity(self.read, self.ranker, embed, self.limit, self.seed)
        raise InputError(
            "--task similarity: needs scores: name a file by --similarity, or an --embedder module:function"
        )


def function(name: str, option: str) -> Callable[[Sequence[str]], Any]:
    """`module:function` as that function. Raises InputError."""
    module, _, wanted = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), wanted)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise InputError(
            f"{option} {name}: can't be imported ({error}); give module:function on Python's path"
        ) from None
    if not callable(found):
        raise InputError(f"{option} {name}: is no function; give module:function")
    wished: Callable[[Sequence[str]], Any] = found
    return wished


def choose(wanted: str, given: Sources) -> list[str]:
    """Tasks by `--task`: names with commas, or `all` that have what they need. Raises InputError."""
    if wanted == "all":
        some = [task for task in TASKS if getattr(given, task, None)]
        some += ["bm25", "tf", "relevance"] if given.collection else []
        some += ["entities"] if given.tagger and given.collection else []
        some += ["similarity"] if given.embedder and given.collection else []
        if not some:
            raise InputError("--task all: nothing was given to make a set of; name a --collection or a labelled file")
    else:
        some = wanted.split(",")
        for task in some:
            if task not in TASKS:
                raise InputError(f"--task {task}: is unknown; the tasks are {', '.join(TASKS)}, or all")
    return [task for task in TASKS if task in some]
