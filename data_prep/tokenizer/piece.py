"""Sentencepiece, trained here or given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from data_prep.files import make_folder, replacing
from data_prep.tokenizer.base import EOD, Base, Encoded, identity_of
from megatron_nlg.config.errors import InputError


class SentencePieceTokenizer(Base):
    """A sentencepiece model (BPE or unigram). Those trained here have byte fallback: no text becomes an unknown."""

    kind = "sentencepiece"
    file = "spm.model"

    def __init__(self, content: bytes, source: str = "spm.model", eod: str = EOD):
        """From the bytes of a model file; raises InputError, naming `source`, for a damaged one or one without eod."""
        import sentencepiece

        try:
            self._backend = sentencepiece.SentencePieceProcessor(model_proto=content)
            self.vocab_size = int(self._backend.get_piece_size())
            self.eod = int(self._backend.piece_to_id(eod))
        except Exception as error:  # a C++ exception that SWIG translated, of no fixed type
            raise InputError(f"{source}: not a sentencepiece model: {error}") from None
        if self._backend.id_to_piece(self.eod) != eod or not self._backend.is_control(self.eod):
            found = [self._backend.id_to_piece(i) for i in range(self.vocab_size) if self._backend.is_control(i)]
            known = f"name one of its own as tokenizer.eod: {', '.join(found[:20])}" if found else "train it with one"
            raise InputError(f"{source}: has no control symbol {eod}, which ends a document; {known}")
        self._eod_name = eod
        self._content = content
        self.identity = identity_of(self.kind, content, eod)

    @classmethod
    def from_folder(cls, content: bytes, source: str, eod: int) -> SentencePieceTokenizer:
        """From the content of a tokenizer folder, whose meta.json knows eod by its id."""
        import sentencepiece

        try:
            name = sentencepiece.SentencePieceProcessor(model_proto=content).id_to_piece(eod)
        except Exception:  # __init__ says what is wrong
            name = EOD
        return cls(content, source, name)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, model: str) -> SentencePieceTokenizer:
        """Learn a `bpe` or `unigram` model. Raises InputError when the corpus is too small for `vocab_size`."""
        import io

        import sentencepiece

        stream = io.BytesIO()
        # A "sentence" is a line: the trainer's memory and time grow with its longest sentence.
        lines = (line for text in texts for line in text.split("\n") if line)
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=lines,
                model_writer=stream,
                model_type=model,
                vocab_size=vocab_size,
                byte_fallback=True,
                character_coverage=0.9995,
                normalization_rule_name="identity",
                remove_extra_whitespaces=False,
                add_dummy_prefix=False,
                control_symbols=[EOD],
                bos_id=-1,
                eos_id=-1,
                num_threads=1,  # more threads change the order of float sums, and with it the model
                max_sentence_length=1 << 20,
                minloglevel=2,
            )
        except RuntimeError as error:
            raise InputError(f"tokenizer.vocab_size: {vocab_size} does not fit this corpus: {error}") from None
        return cls(stream.getvalue())

    def encode(self, text: str) -> list[int]:
        """Token ids of a text."""
        return [int(i) for i in self._backend.encode(text, out_type=int)]

    def encode_batch(self, texts: Any) -> Encoded:
        """Token ids of several texts."""
        return Encoded.of(self._backend.encode(texts.to_pylist(), return_type="numpy", num_threads=1))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids."""
        parts: list[str] = []
        run: list[int] = []
        for i in self._check(ids):
            if i == self.eod:  # the library drops control symbols
                parts += [self._backend.decode(run), self._eod_name]
                run = []
            else:
                run.append(i)
        return "".join([*parts, self._backend.decode(run)])

    def save(self, folder: Path) -> None:
        """Write `spm.model` and `meta.json`."""
        make_folder(folder)
        with replacing(folder / self.file) as temporary:
            temporary.write_bytes(self._content)
        self._save_meta(folder)
