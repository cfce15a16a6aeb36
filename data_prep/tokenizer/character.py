"""One token a character."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.files import make_folder, write_text
from data_prep.tokenizer.base import EOD, Base, Encoded, identity_of, text_buffers
from megatron_nlg.config.errors import InputError

_CODE_POINTS = 0x110000


class CharacterTokenizer(Base):
    """One token a character, in code-point order, and the end-of-document symbol last."""

    kind = "char"
    file = "chars.json"

    def __init__(self, characters: Sequence[str], source: str = "chars.json"):
        """From the distinct characters; raises InputError, naming `source`, when they are not single and distinct."""
        if len(set(characters)) != len(characters) or not all(isinstance(c, str) and len(c) == 1 for c in characters):
            raise InputError(f"{source}: a list of distinct single characters is expected")
        self._characters = list(characters)
        self._table = np.full(_CODE_POINTS, -1, np.int32)
        self._table[[ord(character) for character in characters]] = np.arange(len(characters), dtype=np.int32)
        self.eod = len(self._characters)
        self.vocab_size = len(self._characters) + 1
        self.identity = identity_of(self.kind, json.dumps(self._characters).encode())

    @classmethod
    def train(cls, texts: Iterable[str]) -> CharacterTokenizer:
        """All characters that occur."""
        seen: set[str] = set()
        for text in texts:
            seen.update(text)
        return cls(sorted(seen))

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; raises InputError for a character that did not occur in training."""
        return [int(i) for i in self._ids(text)]

    def encode_batch(self, texts: Any) -> Encoded:
        """Token ids of several texts."""
        import pyarrow.compute as pc

        offsets = np.zeros(len(texts) + 1, np.int64)
        np.cumsum(pc.utf8_length(texts).to_numpy(zero_copy_only=False), out=offsets[1:])
        return Encoded(self._ids(text_buffers(texts)[0].tobytes().decode()), offsets)

    def _ids(self, text: str) -> Any:
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        ids = self._table[points]
        if len(ids) and ids.min() < 0:
            raise InputError(
                f"character {chr(points[int(ids.argmin())])!r} is not one of the tokenizer's "
                f"{len(self._characters)}; leave it out, or use a tokenizer of kind bpe"
            )
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids."""
        return "".join(EOD if i == self.eod else self._characters[i] for i in self._check(ids))

    def save(self, folder: Path) -> None:
        """Write `chars.json` and `meta.json`."""
        make_folder(folder)
        write_text(folder / self.file, json.dumps(self._characters) + "\n")
        self._save_meta(folder)
