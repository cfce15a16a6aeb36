"""What every tokenizer offers, and what the kinds share."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from data_prep.files import write_json
from megatron_nlg.config.errors import InputError

EOD = "<|endoftext|>"
META = "meta.json"


class Encoded(NamedTuple):
    """Tokens of several documents, one after the other."""

    ids: NDArray[Any]
    """[tokens], integers below the vocabulary's size."""
    offsets: NDArray[np.int64]
    """Document i is `ids[offsets[i]:offsets[i + 1]]`; [documents + 1]."""

    @classmethod
    def of(cls, documents: Iterable[Sequence[int] | NDArray[Any]]) -> Encoded:
        """From the ids of each document."""
        arrays = [np.asarray(ids, dtype=np.int32) for ids in documents]
        offsets = np.zeros(len(arrays) + 1, np.int64)
        np.cumsum([len(ids) for ids in arrays], out=offsets[1:])
        return cls(np.concatenate([np.zeros(0, np.int32), *arrays]), offsets)

    def lists(self) -> list[list[int]]:
        """Ids of each document."""
        return [self.ids[a:b].tolist() for a, b in zip(self.offsets[:-1], self.offsets[1:], strict=True)]


class Encoder(Protocol):
    """Texts to ids in batches."""

    def encode_batch(self, texts: Any) -> Encoded:
        """Token ids of an Arrow array of large strings without nulls."""
        ...


class Tokenizer(Encoder, Protocol):
    """Text <-> token ids. Encoding never yields `eod`, even for text that spells its name."""

    kind: str
    """bpe, huggingface, sentencepiece or char."""
    eod: int
    """Id of the end-of-document token."""
    vocab_size: int
    """Ids are below this, eod included."""
    identity: str
    """`sha256:…` of the kind and the content."""

    @property
    def unique_identifiers(self) -> OrderedDict[str, str]:
        """What Megatron-core's datasets hash into the names of their index caches."""
        ...

    def encode(self, text: str) -> list[int]:
        """Token ids of a text."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids; eod is shown by its name."""
        ...

    def save(self, folder: Path) -> None:
        """Write the folder that load_tokenizer reads, `meta.json` last."""
        ...


class Base:
    """What the kinds share."""

    kind: str
    eod: int
    vocab_size: int
    identity: str

    @property
    def unique_identifiers(self) -> OrderedDict[str, str]:
        """What Megatron-core's datasets hash into the names of their index caches."""
        return OrderedDict([("class", "data_prep.tokenizer"), ("kind", self.kind), ("identity", self.identity)])

    def _save_meta(self, folder: Path) -> None:
        meta = {"kind": self.kind, "identity": self.identity, "vocab_size": self.vocab_size, "eod": self.eod}
        write_json(folder / META, meta)

    def _check(self, ids: Sequence[int]) -> list[int]:
        bad = [i for i in ids if not 0 <= i < self.vocab_size]
        if bad:
            raise InputError(f"token {bad[0]} is outside the tokenizer's {self.vocab_size} entries")
        return list(ids)


def identity_of(kind: str, content: bytes, eod: str = EOD) -> str:
    """`sha256:…`; the name of the end-of-document token counts where it is not the usual one."""
    named = b"" if eod == EOD else b"\0" + eod.encode()
    return "sha256:" + hashlib.sha256(kind.encode() + b"\0" + content + named).hexdigest()


def text_buffers(texts: Any) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """UTF-8 bytes and document offsets [documents + 1] of an Arrow array of large strings, without a copy."""
    _, offsets, data = texts.buffers()
    if not len(texts):
        return np.zeros(0, np.uint8), np.zeros(1, np.int64)
    where = np.frombuffer(offsets, np.int64, len(texts) + 1, 8 * texts.offset)
    whole = np.zeros(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)
    return whole[where[0] : where[-1]], where - where[0]
