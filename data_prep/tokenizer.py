"""The one tokenizer interface: preparation, training and generation all go through it.

A tokenizer is a folder: `meta.json` (kind, identity, vocab_size, eod) and one content file that depends on the kind:
`tokenizer.json` (byte-level BPE), `spm.model` (sentencepiece) or `chars.json` (characters). The identity is a hash of
kind and content, so that tokens can be matched to the tokenizer that made them. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from data_prep.files import make_folder, read_json, replacing, write_json, write_text
from megatron_nlg.config.errors import InputError

EOD = "<|endoftext|>"
META = "meta.json"


class Tokenizer(Protocol):
    """Text <-> token ids. Encoding never yields `eod`, even for text that spells its name."""

    kind: str
    """bpe, sentencepiece or char."""
    eod: int
    """Id of the end-of-document token."""
    vocab_size: int
    """Entries, eod included; ids are below this."""
    identity: str
    """`sha256:…` of the kind and the content."""

    @property
    def unique_identifiers(self) -> OrderedDict[str, str]:
        """What Megatron-core's datasets hash into the names of their index caches."""
        ...

    def encode(self, text: str) -> list[int]:
        """Token ids of a text."""
        ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of several texts."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids; eod is shown by its name."""
        ...

    def save(self, folder: Path) -> None:
        """Write the folder that load_tokenizer reads, `meta.json` last."""
        ...


class _Base:
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


def _identity(kind: str, content: bytes) -> str:
    return "sha256:" + hashlib.sha256(kind.encode() + b"\0" + content).hexdigest()


class BytePairTokenizer(_Base):
    """Byte-level BPE (GPT-2's scheme) on Hugging Face's `tokenizers`: any text survives encode and decode unchanged."""

    kind = "bpe"
    file = "tokenizer.json"

    def __init__(self, content: str, source: str = "tokenizer.json"):
        """From a `tokenizer.json`'s text; raises InputError, naming `source`, for a damaged one or one without eod."""
        from tokenizers import Tokenizer as Backend

        try:
            self._backend = Backend.from_str(content)
        except Exception as error:  # the library raises bare Exception
            raise InputError(f"{source}: not a tokenizer of Hugging Face's format: {error}") from None
        # Text that spells the name of a special token is text: it must not end a document.
        self._backend.encode_special_tokens = True
        eod = self._backend.token_to_id(EOD)
        if eod is None:
            raise InputError(f"{source}: has no {EOD} token, which ends a document; add it as a special token")
        self.eod = int(eod)
        self.vocab_size = int(self._backend.get_vocab_size())
        self._content = content
        tree = json.loads(content)
        self.identity = _identity(self.kind, json.dumps(tree, sort_keys=True, ensure_ascii=True).encode())

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> BytePairTokenizer:
        """Learn merges from texts. Small corpora may yield fewer entries than asked for. Deterministic."""
        from tokenizers import pre_tokenizers, trainers

        backend = _byte_level({}, [])
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[EOD],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        backend.train_from_iterator(texts, trainer=trainer)
        return cls(backend.to_str())

    @classmethod
    def from_gpt2(cls, vocab: Path, merges: Path) -> BytePairTokenizer:
        """From GPT-2's `vocab.json` and `merges.txt`."""
        from tokenizers import AddedToken

        entries = read_json(vocab, "give GPT-2's vocab.json as tokenizer.vocab")
        if not all(isinstance(i, int) for i in entries.values()) or sorted(entries.values()) != list(
            range(len(entries))
        ):
            raise InputError(f"{vocab}: ids are not 0..{len(entries) - 1}; give GPT-2's vocab.json as tokenizer.vocab")
        if EOD not in entries:
            raise InputError(f"{vocab}: has no {EOD} entry; give GPT-2's vocab.json as tokenizer.vocab")
        try:
            backend = _byte_level(entries, _read_merges(merges))
        except (InputError, OSError):
            raise
        except Exception as error:  # the library raises bare Exception
            raise InputError(f"{merges}: does not fit {vocab.name}: {error}") from None
        backend.add_special_tokens([AddedToken(EOD, special=True, normalized=False)])
        return cls(backend.to_str(), str(vocab))

    def encode(self, text: str) -> list[int]:
        """Token ids of a text."""
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of several texts."""
        return [item.ids for item in self._backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids; bytes that are not UTF-8 become U+FFFD."""
        return str(self._backend.decode(self._check(ids), skip_special_tokens=False))

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` and `meta.json`."""
        make_folder(folder)
        write_text(folder / self.file, self._content)
        self._save_meta(folder)


def _byte_level(vocab: dict[str, int], merges: list[tuple[str, str]]) -> Any:
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers

    backend = Backend(models.BPE(vocab=vocab, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.decoder = decoders.ByteLevel()
    return backend


def _read_merges(path: Path) -> list[tuple[str, str]]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give GPT-2's merges.txt as tokenizer.merges") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}; give GPT-2's merges.txt as tokenizer.merges") from None
    merges = []
    for number, line in enumerate(lines, 1):
        if not line or (number == 1 and line.startswith("#version")):
            continue
        pair = line.split(" ")
        if len(pair) != 2:
            raise InputError(f"{path}:{number}: a merge is two words, not {line!r}; give GPT-2's merges.txt")
        merges.append((pair[0], pair[1]))
    return merges


class SentencePieceTokenizer(_Base):
    """A sentencepiece model (BPE or unigram) with byte fallback: unseen characters become bytes, not unknowns."""

    kind = "sentencepiece"
    file = "spm.model"

    def __init__(self, content: bytes, source: str = "spm.model"):
        """From the bytes of a model file; raises InputError, naming `source`, for a damaged one or one without eod."""
        import sentencepiece

        try:
            self._backend = sentencepiece.SentencePieceProcessor(model_proto=content)
            self.vocab_size = int(self._backend.get_piece_size())
            self.eod = int(self._backend.piece_to_id(EOD))
        except Exception as error:  # a C++ exception that SWIG translated, of no fixed type
            raise InputError(f"{source}: not a sentencepiece model: {error}") from None
        if self._backend.is_unknown(self.eod) or not self._backend.is_control(self.eod):
            raise InputError(f"{source}: has no control symbol {EOD}, which ends a document; train it with one")
        self._content = content
        self.identity = _identity(self.kind, content)

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

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of several texts."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids."""
        parts: list[str] = []
        run: list[int] = []
        for i in self._check(ids):
            if i == self.eod:  # the library drops control symbols
                parts += [self._backend.decode(run), EOD]
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


class CharacterTokenizer(_Base):
    """One token a character, in code-point order, and the end-of-document symbol last."""

    kind = "char"
    file = "chars.json"

    def __init__(self, characters: Sequence[str], source: str = "chars.json"):
        """From the distinct characters; raises InputError, naming `source`, when they are not single and distinct."""
        if len(set(characters)) != len(characters) or not all(isinstance(c, str) and len(c) == 1 for c in characters):
            raise InputError(f"{source}: a list of distinct single characters is expected")
        self._characters = list(characters)
        self._ids = {character: i for i, character in enumerate(characters)}
        self.eod = len(self._characters)
        self.vocab_size = len(self._characters) + 1
        self.identity = _identity(self.kind, json.dumps(self._characters).encode())

    @classmethod
    def train(cls, texts: Iterable[str]) -> CharacterTokenizer:
        """All characters that occur."""
        seen: set[str] = set()
        for text in texts:
            seen.update(text)
        return cls(sorted(seen))

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; raises InputError for a character that did not occur in training."""
        try:
            return [self._ids[character] for character in text]
        except KeyError as error:
            raise InputError(
                f"character {error.args[0]!r} is not one of the tokenizer's {len(self._characters)}; leave it out, or "
                "use a tokenizer of kind bpe"
            ) from None

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of several texts."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids."""
        return "".join(EOD if i == self.eod else self._characters[i] for i in self._check(ids))

    def save(self, folder: Path) -> None:
        """Write `chars.json` and `meta.json`."""
        make_folder(folder)
        write_text(folder / self.file, json.dumps(self._characters) + "\n")
        self._save_meta(folder)


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load a tokenizer folder.

    Raises InputError when files are missing or damaged, or the content is not what `meta.json` says it is.
    """
    mend = "give a tokenizer folder that megatron-nlg prep wrote"
    meta = read_json(folder / META, mend)
    kind = meta.get("kind")
    tokenizer: Tokenizer
    if kind == BytePairTokenizer.kind:
        tokenizer = BytePairTokenizer(_content(folder / BytePairTokenizer.file).decode("utf-8", "replace"), str(folder))
    elif kind == SentencePieceTokenizer.kind:
        path = folder / SentencePieceTokenizer.file
        tokenizer = SentencePieceTokenizer(_content(path), str(path))
    elif kind == CharacterTokenizer.kind:
        path = folder / CharacterTokenizer.file
        try:
            characters = json.loads(_content(path))
        except ValueError as error:
            raise InputError(f"{path}: not valid JSON ({error}); {mend}") from None
        tokenizer = CharacterTokenizer(characters if isinstance(characters, list) else [""], str(path))
    else:
        raise InputError(f"{folder / META}: kind is one of bpe, sentencepiece, char, not {kind!r}; {mend}")
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
