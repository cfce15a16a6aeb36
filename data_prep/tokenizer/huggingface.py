"""Any `tokenizer.json` of Hugging Face's `tokenizers`, and byte-level BPE trained here or from GPT-2's files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from data_prep.files import make_folder, read_json, write_text
from data_prep.tokenizer.base import EOD, Base, Encoded, identity_of
from megatron_nlg.config.errors import InputError


class HuggingFaceTokenizer(Base):
    """A `tokenizer.json` as it is, but for what belongs to single calls: truncation, padding, templates."""

    kind = "huggingface"
    file = "tokenizer.json"

    def __init__(self, content: str, source: str = "tokenizer.json", eod: str = EOD):
        """From a `tokenizer.json`'s text; raises InputError, naming `source`, for a damaged one or one without eod."""
        from tokenizers import Tokenizer as Backend

        try:
            tree = json.loads(content)
            self._backend = Backend.from_str(_special(tree, eod))
        except Exception as error:  # the library raises bare Exception
            raise InputError(f"{source}: not a tokenizer of Hugging Face's format: {error}") from None
        self._backend.no_truncation()
        self._backend.no_padding()
        # Text that spells the name of a special token is text: it must not end a document.
        self._backend.encode_special_tokens = True
        found = self._backend.token_to_id(eod)
        if found is None:
            special = [token["content"] for token in tree["added_tokens"] if token["special"]]
            known = f"name one of its own as tokenizer.eod: {', '.join(special[:20])}" if special else "add it as one"
            raise InputError(f"{source}: has no {eod} token, which ends a document; {known}")
        self.eod = int(found)
        if self.eod in self.encode(eod):
            raise InputError(f"{source}: text that spells {eod} becomes that token; name a special token as eod")
        self.vocab_size = max(self._backend.get_vocab().values()) + 1
        self.tree: dict[str, Any] = tree
        """The content, parsed."""
        self.content = content
        """The same as text."""
        canonical = json.dumps(tree, sort_keys=True, ensure_ascii=True).encode()
        self.identity = identity_of(self.kind, canonical, eod)

    @classmethod
    def from_folder(cls, content: str, source: str, eod: int) -> HuggingFaceTokenizer:
        """From the content of a tokenizer folder, whose meta.json knows eod by its id."""
        from tokenizers import Tokenizer as Backend

        try:
            name = Backend.from_str(content).id_to_token(eod) if eod >= 0 else None
        except Exception:  # __init__ says what is wrong
            name = None
        return cls(content, source, name or EOD)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text."""
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def encode_batch(self, texts: Any) -> Encoded:
        """Token ids of several texts."""
        encodings = self._backend.encode_batch_fast(texts.to_pylist(), add_special_tokens=False)
        return Encoded.of(encoding.ids for encoding in encodings)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids; bytes that are not UTF-8 become U+FFFD."""
        return str(self._backend.decode(self._check(ids), skip_special_tokens=False))

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` and `meta.json`."""
        make_folder(folder)
        write_text(folder / self.file, self.content)
        self._save_meta(folder)


def _special(tree: Any, eod: str) -> str:
    """The content with eod marked as special, so that text can't spell it."""
    added = [t | {"special": True} if t["content"] == eod else t for t in tree.get("added_tokens") or []]
    return json.dumps(tree | {"added_tokens": added}, ensure_ascii=False)


class BytePairTokenizer(HuggingFaceTokenizer):
    """Byte-level BPE in GPT-2's scheme: any text survives encode and decode unchanged."""

    kind = "bpe"

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
