"""The prompts of the book and the settings that continue them, from a YAML file."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from megatron_nlg.config.base import Section, build, read_yaml
from megatron_nlg.config.errors import InputError
from megatron_nlg.generation.sampling import Sampling

PACKAGED = Path(__file__).with_name("prompts.yaml")
NAMED = Annotated[str, Field(min_length=1)]


class Setting(Section):
    """How tokens are chosen; as `generate` has it."""

    temperature: float = 1.0
    """0 is greedy."""
    top_k: int = 0
    """Only so many of the most probable tokens; 0: all."""
    top_p: float = 1.0
    """Only the fewest tokens that hold this share of the probability."""
    repetition_penalty: float = 1.0
    """Above 1: fewer repetitions."""


class Question(Section):
    """One prompt."""

    text: NAMED
    """What is continued, after the kind's `before`."""
    answers: list[NAMED] = Field(default_factory=list)
    """Words of which a good continuation has one."""


class Kind(Section):
    """Prompts of one kind."""

    kind: NAMED
    """Its title."""
    note: str = ""
    """What it shows."""
    before: str = ""
    """Stands before every prompt, with an empty line between."""
    max_tokens: Annotated[int, Field(ge=1)] = 64
    """Of a continuation."""
    stop: list[NAMED] = Field(default_factory=list)
    """Text that ends it."""
    prompts: Annotated[list[Question], Field(min_length=1)]
    """At least one."""


class PromptFile(Section):
    """A file of prompts."""

    settings: Annotated[dict[NAMED, Setting], Field(min_length=1)]
    """Name -> setting."""
    kinds: Annotated[list[Kind], Field(min_length=1)]
    """In the order of the book."""


@dataclass(frozen=True)
class Entry:
    """A prompt with a setting: one row of the book."""

    kind: str
    number: int
    """Of the prompt among its kind's, from 1."""
    setting: str
    prompt: str
    sampling: Sampling
    answers: tuple[str, ...]

    def found(self, text: str) -> bool | None:
        """Whether a continuation's first line has an answer as a word of its own; None where there is none."""
        if not self.answers:
            return None
        line = text.strip().split("\n")[0]
        return any(re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", line, re.IGNORECASE) for answer in self.answers)


def read_prompts(path: Path) -> PromptFile:
    """Raises InputError or ConfigError that names file, key, value and mend."""
    book = build(PromptFile, read_yaml(path), str(path))
    for name, setting in book.settings.items():
        try:
            _sampling(setting).check()
        except InputError as error:
            raise InputError(f"{path}: settings.{name}: {error}") from None
    kinds = [kind.kind for kind in book.kinds]
    if repeated := {kind for kind in kinds if kinds.count(kind) > 1}:
        raise InputError(f"{path}: kinds: {', '.join(sorted(repeated))}: given twice; put its prompts together")
    return book


def entries(book: PromptFile, seed: int) -> list[Entry]:
    """All rows: every prompt with every setting. A prompt is drawn with the same seed by all of them."""
    found: list[Entry] = []
    for kind in book.kinds:
        for number, question in enumerate(kind.prompts, 1):
            prompt = f"{kind.before}\n\n{question.text}" if kind.before else question.text
            for name, setting in book.settings.items():
                how = replace(_sampling(setting), max_tokens=kind.max_tokens, stop=tuple(kind.stop), seed=seed + number)
                found.append(Entry(kind.kind, number, name, prompt, how, tuple(question.answers)))
    return found


def _sampling(setting: Setting) -> Sampling:
    how = Sampling(setting.temperature, setting.top_p, top_k=setting.top_k)
    return replace(how, repetition_penalty=setting.repetition_penalty)
