"""A tokenizer folder read back."""

from __future__ import annotations

import json
from pathlib import Path

from data_prep.files import read_json
from data_prep.tokenizer.base import META, Tokenizer
from data_prep.tokenizer.character import CharacterTokenizer
from data_prep.tokenizer.huggingface import BytePairTokenizer, HuggingFaceTokenizer
from data_prep.tokenizer.piece import SentencePieceTokenizer
from megatron_nlg.config.errors import InputError

_MEND = "give a tokenizer folder that megatron-nlg prep wrote"


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load a tokenizer folder.

    Raises InputError when files are missing or damaged, or the content is not what `meta.json` says it is.
    """
    meta = read_json(folder / META, _MEND)
    kind, eod = meta.get("kind"), meta.get("eod")
    tokenizer: Tokenizer
    if kind == BytePairTokenizer.kind:
        tokenizer = BytePairTokenizer(_content(folder / BytePairTokenizer.file).decode("utf-8", "replace"), str(folder))
    elif kind == HuggingFaceTokenizer.kind:
        content = _content(folder / HuggingFaceTokenizer.file).decode("utf-8", "replace")
        tokenizer = HuggingFaceTokenizer.from_folder(content, str(folder), eod if isinstance(eod, int) else -1)
    elif kind == SentencePieceTokenizer.kind:
        path = folder / SentencePieceTokenizer.file
        tokenizer = SentencePieceTokenizer.from_folder(_content(path), str(path), eod if isinstance(eod, int) else -1)
    elif kind == CharacterTokenizer.kind:
        path = folder / CharacterTokenizer.file
        try:
            characters = json.loads(_content(path))
        except ValueError as error:
            raise InputError(f"{path}: not valid JSON ({error}); {_MEND}") from None
        tokenizer = CharacterTokenizer(characters if isinstance(characters, list) else [""], str(path))
    else:
        raise InputError(
            f"{folder / META}: kind is one of bpe, huggingface, sentencepiece, char, not {kind!r}; {_MEND}"
        )
    for key in ("identity", "vocab_size", "eod"):
        if meta.get(key) != getattr(tokenizer, key):
            raise InputError(
                f"{folder}: {META} says {key} {meta.get(key)!r}, its content {getattr(tokenizer, key)!r}: the folder "
                "was changed after it was written; prepare the corpus again"
            )
    return tokenizer


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; the tokenizer folder is not complete") from None
