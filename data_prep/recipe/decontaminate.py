"""Evaluation tasks whose text must not be in the corpus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from data_prep.recipe.kinds import Count, Positive, Strings, as_tuple
from megatron_nlg.config.base import Section
from megatron_nlg.config.errors import Problem


class Task(Section):
    """One evaluation set."""

    name: str
    """It is counted by this name."""
    paths: Strings
    """JSON-lines files and globs, plain or .gz; from the recipe's root."""
    keys: Strings = ()
    """Keys of a row that hold text, dotted for nested ones (`question.stem`); lists are texts each. All when not
    given."""
    ngram: Annotated[int, Field(ge=8, le=13)] | Literal["auto"] = "auto"
    """Words in an n-gram; auto is the length below which 5 % of the task's texts lie, within 8 and 13."""


class Decontaminate(Section):
    """Cut evaluation examples out of documents (MT-NLG, section 3). Nothing is done without tasks."""

    tasks: Annotated[tuple[Task, ...], BeforeValidator(as_tuple)] = ()
    """Evaluation sets."""
    characters: Count = 200
    """Cut on each side of a match, and on to the nearest sentence end."""
    min_characters: Count = 200
    """Shorter pieces are dropped."""
    max_pieces: Positive = 10
    """A document that is cut into more is dropped as a whole."""
    frequent: Positive = 10
    """n-grams that occur this often in the corpus are common phrases, and are not cut."""


def decontaminate_problems(settings: Decontaminate) -> Iterator[Problem]:
    """What no single field can say."""
    names = [task.name for task in settings.tasks]
    for i, task in enumerate(settings.tasks):
        if task.name in names[:i]:
            yield Problem(f"decontaminate.tasks.{i}.name", f"{task.name!r} is given twice", "names must differ")
        if not task.paths:
            yield Problem(f"decontaminate.tasks.{i}.paths", "is empty", "give JSON-lines files")
