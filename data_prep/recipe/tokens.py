"""Tokenizer and tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from data_prep.recipe.kinds import Positive, whole
from megatron_nlg.config.base import Section
from megatron_nlg.config.errors import Problem


class TokenizerRecipe(Section):
    """Where the tokenizer comes from: trained on the corpus (kind), or given (kind gpt2, or load)."""

    kind: Literal["bpe", "sentencepiece", "char", "gpt2", "huggingface"] | None = None
    """Byte-level BPE, sentencepiece or characters, trained here; GPT-2's vocabulary and merges; or `file`."""
    vocab_size: Annotated[int, BeforeValidator(whole), Field(ge=257)] | None = None
    """Entries of bpe and sentencepiece."""
    model: Literal["bpe", "unigram"] = "bpe"
    """sentencepiece's algorithm."""
    train_bytes: Positive | None = None
    """Train on about this many bytes, evenly spread documents of the corpus; on all of it when not given."""
    vocab: str | None = None
    """GPT-2's vocab.json."""
    merges: str | None = None
    """GPT-2's merges.txt."""
    file: str | None = None
    """A `tokenizer.json`, for kind huggingface; or a sentencepiece `.model` that is taken as it is."""
    eod: str = "<|endoftext|>"
    """Name of the token that ends a document, in a given `file`: one of its special tokens, such as `</s>`."""
    load: str | None = None
    """A tokenizer folder of an earlier preparation, instead of kind."""


class Tokenize(Section):
    """How documents become tokens."""

    append_eod: bool = True
    """End every document with the end-of-document token. Off only where documents are cuts of one text."""
    engine: Literal["auto", "gigatoken", "huggingface"] = "auto"
    """What encodes byte-level BPE: auto is gigatoken where it gives the same ids, else Hugging Face's `tokenizers`. The
    tokens do not depend on it; `gigatoken` makes it an error when it can't be used."""


def tokenizer_problems(tokenizer: TokenizerRecipe) -> Iterator[Problem]:
    """What no single field can say."""
    if (tokenizer.kind is None) == (tokenizer.load is None):
        yield Problem(
            "tokenizer.kind",
            f"{tokenizer.kind}, with tokenizer.load {tokenizer.load}",
            "give kind (bpe, sentencepiece, char, gpt2 or huggingface), or load for a tokenizer folder",
        )
        return
    yield from _file_problems(tokenizer)
    trained = tokenizer.kind == "bpe" or (tokenizer.kind == "sentencepiece" and tokenizer.file is None)
    if trained and tokenizer.vocab_size is None:
        yield Problem("tokenizer.vocab_size", f"is required to train {tokenizer.kind}", "32000 suits large corpora")
    if not trained and tokenizer.vocab_size is not None:
        yield Problem("tokenizer.vocab_size", f"{tokenizer.vocab_size} can't be chosen here", "leave it out")
    for key in ("vocab", "merges"):
        value = getattr(tokenizer, key)
        if tokenizer.kind == "gpt2" and value is None:
            yield Problem(f"tokenizer.{key}", "is required by kind gpt2", "give GPT-2's vocab.json and merges.txt")
        elif tokenizer.kind != "gpt2" and value is not None:
            yield Problem(f"tokenizer.{key}", f"{value!r} belongs to kind gpt2", "leave it out, or set kind to gpt2")


def _file_problems(tokenizer: TokenizerRecipe) -> Iterator[Problem]:
    if tokenizer.kind == "huggingface" and tokenizer.file is None:
        yield Problem("tokenizer.file", "is required by kind huggingface", "give a tokenizer.json")
    elif tokenizer.file is not None and tokenizer.kind not in ("huggingface", "sentencepiece"):
        yield Problem(
            "tokenizer.file", f"{tokenizer.file!r} belongs to kinds huggingface and sentencepiece", "leave it out"
        )
    elif tokenizer.file is None and tokenizer.eod != TokenizerRecipe.model_fields["eod"].default:
        yield Problem(
            "tokenizer.eod", f"{tokenizer.eod!r} can be chosen for a given tokenizer.file only", "leave it out"
        )
