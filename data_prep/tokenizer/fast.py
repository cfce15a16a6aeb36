"""gigatoken: byte-level BPE some forty times as fast as Hugging Face's `tokenizers`, and with the same ids.

Two engines that read the same vocabulary can differ in one thing that no vocabulary shows: where they split text before
merging, which hangs on the Unicode version each was built with (letters of Unicode 16 and 17, at the time of writing).
So no character is taken on trust. The first time a character occurs, both engines encode it between a few ASCII
neighbours with a probe: a vocabulary with the tokenizer's own splitting rule and a merge for every possible pair of
neighbouring bytes there, so that ids show where it splits. A document with a character on which they differ goes to
Hugging Face's engine, and the ids are always what that gives.
"""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.tokenizer.base import Encoded, Tokenizer, text_buffers
from data_prep.tokenizer.huggingface import HuggingFaceTokenizer

_UNKNOWN, _SAME, _DIFFERENT = 0, 1, 2
_NEIGHBOURS = "aAs1!' \n"
"""One of each class that a splitting rule made of ASCII, \\s, \\p{L}, \\p{N}, their cases and \\p{M} can tell apart."""
_CONTEXTS = (*((c, c) for c in _NEIGHBOURS), ("'", "a"))
_CLASSES = {"L", "N", "M", "Lu", "Ll", "Lt", "Lm", "Lo"}
_PROBED_AT_ONCE = 1024
_BLOCK = 1024


class Unsuited(Exception):  # noqa: N818 (it is an answer)
    """Why gigatoken can't take a tokenizer's place."""


class GigatokenEncoder:
    """The ids of a `tokenizer.json` of byte-level BPE, by gigatoken where that is proven to be the same."""

    def __init__(self, tokenizer: Tokenizer):
        """Raises Unsuited, with the reason, for another kind of tokenizer and without gigatoken."""
        if not isinstance(tokenizer, HuggingFaceTokenizer):
            raise Unsuited(f"tokenizers of kind {tokenizer.kind} are not byte-level BPE")
        _refuse(tokenizer.tree)
        # Special tokens are text here, as for the tokenizer.
        self._fast = _gigatoken(tokenizer.tree | {"added_tokens": [], "truncation": None, "padding": None})
        self._exact = tokenizer
        probe = _probe(tokenizer.tree["pre_tokenizer"])
        self._fast_probe = _gigatoken(probe)
        self._exact_probe = _backend(probe)
        self._state = np.zeros(0x110000, np.uint8)
        self._prove(np.arange(0x80, dtype=np.uint32))
        if (self._state[:0x80] != _SAME).any():
            raise Unsuited("gigatoken splits ASCII text in another way")

    def encode_batch(self, texts: Any) -> Encoded:
        """Token ids of several texts: an Arrow array of large strings."""
        data, offsets = text_buffers(texts)
        fast = self._encode_fast(data, offsets)
        slow = self._others(data, offsets)
        if not len(slow):
            return fast
        import pyarrow as pa

        return _replaced(fast, slow, self._exact.encode_batch(texts.take(pa.array(slow))))

    def _encode_fast(self, data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> Encoded:
        import awkward as ak

        characters = ak.contents.NumpyArray(data, parameters={"__array__": "char"})
        strings = ak.contents.ListOffsetArray(ak.index.Index64(offsets), characters, parameters={"__array__": "string"})
        found = self._fast.encode_batch(ak.Array(strings), parallel=False).layout
        return Encoded(np.asarray(found.content.data), np.asarray(found.offsets.data))

    def _others(self, data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Documents with a character on which the engines differ."""
        where, points = _beyond_ascii(data)
        new = np.unique(points[self._state[points] == _UNKNOWN])
        for start in range(0, len(new), _PROBED_AT_ONCE):
            self._prove(new[start : start + _PROBED_AT_ONCE])
        different = where[self._state[points] == _DIFFERENT]
        return np.unique(np.searchsorted(offsets, different, side="right") - 1)

    def _prove(self, points: NDArray[np.uint32]) -> None:
        """Learn whether the engines split alike around each of some characters."""
        state = np.full(len(points), _SAME, np.uint8)
        for before, after in _CONTEXTS:
            texts = [before + chr(point) + after for point in points]
            if self._same("\n".join(texts)):
                continue
            alone = np.array([self._same(text) for text in texts])
            state[~alone if not alone.all() else slice(None)] = _DIFFERENT
        self._state[points] = state

    def _same(self, text: str) -> bool:
        exact = self._exact_probe.encode(text, add_special_tokens=False).ids
        return bool(exact == self._fast_probe.encode(text).tolist())


def _beyond_ascii(data: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """Where the characters beyond ASCII of some UTF-8 begin, and which they are; both [characters]."""
    where = _lead_bytes(data)
    lead = data[where].astype(np.uint32)
    last = len(data) - 1
    one, two, three = (data[np.minimum(where + i, last)].astype(np.uint32) & 0x3F for i in (1, 2, 3))
    points = np.where(
        lead < 0xE0,
        (lead & 0x1F) << 6 | one,
        np.where(lead < 0xF0, (lead & 0x0F) << 12 | one << 6 | two, (lead & 7) << 18 | one << 12 | two << 6 | three),
    )
    return where, points


def _lead_bytes(data: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Positions of the first bytes of characters beyond ASCII: looked for in the blocks of text that have any."""
    whole = len(data) // _BLOCK
    blocks = np.flatnonzero(data[: whole * _BLOCK].reshape(whole, _BLOCK).max(axis=1) >= 0x80)
    inside = np.flatnonzero(data[: whole * _BLOCK].reshape(whole, _BLOCK)[blocks] >= 0xC0)
    rest = whole * _BLOCK + np.flatnonzero(data[whole * _BLOCK :] >= 0xC0)
    return np.concatenate([blocks[inside // _BLOCK] * _BLOCK + inside % _BLOCK, rest])


def _replaced(encoded: Encoded, documents: NDArray[np.int64], others: Encoded) -> Encoded:
    """`encoded` with some documents, in order, replaced by those of `others`."""
    lengths = np.diff(encoded.offsets)
    lengths[documents] = np.diff(others.offsets)
    parts, done = [], 0
    for document, (start, end) in zip(documents.tolist(), pairwise(others.offsets.tolist()), strict=True):
        parts += [encoded.ids[encoded.offsets[done] : encoded.offsets[document]], others.ids[start:end]]
        done = document + 1
    parts.append(encoded.ids[encoded.offsets[done] :])
    return Encoded(np.concatenate(parts), np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))


def _refuse(tree: dict[str, Any]) -> None:
    """Raise Unsuited for what is not byte-level BPE with a splitting rule that the probe sees through."""
    model = tree["model"]
    if model.get("type") != "BPE" or not set(_byte_letters()) <= set(model["vocab"]):
        raise Unsuited("the tokenizer is not byte-level BPE")
    unusual = [
        key for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback") if model.get(key)
    ]
    if tree.get("normalizer"):
        unusual.append("normalizer")
    if any(not token["special"] for token in tree.get("added_tokens") or []):
        unusual.append("added tokens that are not special")
    if unusual:
        raise Unsuited(f"the tokenizer has {', '.join(unusual)}")
    if not _is_transparent(tree.get("pre_tokenizer") or {}):
        raise Unsuited("the tokenizer's splitting rule is not one that can be compared")


def _is_transparent(rule: dict[str, Any]) -> bool:
    """ByteLevel by itself, or after one split by a pattern that names characters beyond ASCII by class only."""
    if rule.get("type") == "Sequence" and len(rule.get("pretokenizers", [])) == 2:
        split, rule = rule["pretokenizers"]
        pattern = split.get("pattern", {}).get("Regex", "é")
        plain = pattern.isascii() and not re.search(r"\\[xuPX]|&&|\[:", pattern)
        if not plain or not set(re.findall(r"\\p\{(\^?\w+)\}", pattern)) <= _CLASSES:
            return False
        if split.get("type") != "Split" or split.get("behavior") != "Isolated" or split.get("invert"):
            return False
        return rule.get("type") == "ByteLevel" and not rule["add_prefix_space"] and not rule["use_regex"]
    return rule.get("type") == "ByteLevel" and not rule["add_prefix_space"] and bool(rule["use_regex"])


def _byte_letters() -> list[str]:
    """The letter that stands for each byte in byte-level vocabularies (GPT-2's table); [256]."""
    shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = iter(range(0x100, 0x200))
    return [chr(byte if byte in shown else next(hidden)) for byte in range(0x100)]


def _probe(rule: Any) -> dict[str, Any]:
    """A tokenizer that splits by `rule` and merges any byte of a character with the neighbour it was not split from."""
    letters = _byte_letters()
    first, last = (*range(0x80), *range(0xC2, 0xF5)), range(0xC0)
    pairs = [(ord(c), byte) for c in _NEIGHBOURS for byte in first] + [(b, ord(c)) for c in _NEIGHBOURS for b in last]
    merges = list(dict.fromkeys((letters[a], letters[b]) for a, b in pairs))
    vocab = {letter: i for i, letter in enumerate([*letters, *(a + b for a, b in merges)])}
    model = {"type": "BPE", "vocab": vocab, "merges": merges, "fuse_unk": False, "byte_fallback": False}
    parts = ("normalizer", "post_processor", "decoder", "truncation", "padding")
    return {"version": "1.0", "added_tokens": [], "pre_tokenizer": rule, "model": model, **dict.fromkeys(parts)}


def _gigatoken(tree: dict[str, Any]) -> Any:
    try:
        import gigatoken
    except ImportError:
        raise Unsuited("gigatoken is not installed") from None
    try:
        return gigatoken.Tokenizer.from_json(json.dumps(tree, ensure_ascii=False))
    except Exception as error:  # of no fixed type
        raise Unsuited(f"gigatoken does not take it: {error}") from None


def _backend(tree: dict[str, Any]) -> Any:
    from tokenizers import Tokenizer as Backend

    return Backend.from_str(json.dumps(tree, ensure_ascii=False))
