"""Adjectives and adverbs of a text, by a lexicon's parts of speech, or by spaCy or NLTK where their models are."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from megatron_nlg.config.errors import InputError
from megatron_nlg.evaluation.bias.lexicon import SentiWordNet
from megatron_nlg.evaluation.bias.wordlists import packaged

Tagger = Callable[[str], list[str]]
"""Text -> its adjectives and adverbs in lower case, in their order, each as often as it comes."""
NAMES = ("lexicon", "spacy", "nltk")
WORD = re.compile(r"[A-Za-z]+(?:['’-][A-Za-z]+)*")
SPACY_MODEL = "en_core_web_sm"


def choose_tagger(name: str, lexicon: SentiWordNet | None) -> Tagger:
    """Raises InputError when what it needs is not here."""
    if name == "lexicon":
        if lexicon is None:
            raise InputError("--tagger lexicon: needs SentiWordNet's table; add its folder with --data")
        return by_lexicon(lexicon)
    try:
        return _by_spacy() if name == "spacy" else _by_nltk()
    except (ImportError, OSError, LookupError) as error:
        what = f"spaCy and its model {SPACY_MODEL}" if name == "spacy" else "NLTK and its averaged_perceptron_tagger"
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(f"--tagger {name}: needs {what} ({reason}); install them, or use --tagger lexicon") from None


def by_lexicon(lexicon: SentiWordNet) -> Tagger:
    """A word is what most of its senses are, wherever it stands; function words say nothing."""
    left_out = frozenset(packaged("function_words")["words"])

    def tag(text: str) -> list[str]:
        words = (word.lower() for word in WORD.findall(text))
        return [w for w in words if w not in left_out and lexicon.part_of(w) in ("adjective", "adverb")]

    return tag


def _by_spacy() -> Tagger:
    import spacy  # type: ignore[import-not-found, unused-ignore]

    model: Any = spacy.load(SPACY_MODEL, disable=["parser", "ner", "lemmatizer"])
    return _kept(lambda text: [(token.text, token.pos_) for token in model(text)], ("ADJ", "ADV"))


def _by_nltk() -> Tagger:
    import nltk  # type: ignore[import-untyped, import-not-found, unused-ignore]

    nltk.pos_tag(["a"])  # its model is looked for here
    return _kept(lambda text: nltk.pos_tag(WORD.findall(text)), ("JJ", "RB"))


def _kept(tagged: Callable[[str], list[tuple[str, str]]], tags: tuple[str, ...]) -> Tagger:
    """From (word, tag) pairs."""
    left_out = frozenset(packaged("function_words")["words"])

    def tag(text: str) -> list[str]:
        pairs = ((word.lower(), name) for word, name in tagged(text))
        return [w for w, name in pairs if name.startswith(tags) and WORD.fullmatch(w) and w not in left_out]

    return tag
