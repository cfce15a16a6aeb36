"""Documents to Megatron's token files: `tokens/`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_prep.batches import runs
from data_prep.execution.units import Result
from data_prep.files import write_json
from data_prep.indexed import IndexedWriter, token_dtype
from data_prep.jobs import Built, Done
from data_prep.report.lengths import BINS, add_up, count_lengths
from data_prep.shards import read_batches, read_documents, read_table, text_bytes
from data_prep.stages.base import Progress, Stage, flat, stem
from data_prep.stages.tokenizer import retire_blend
from data_prep.tokenizer import Encoded, Encoder, HuggingFaceTokenizer, Tokenizer, load_tokenizer
from data_prep.tokenizer.fast import GigatokenEncoder, Unsuited
from megatron_nlg.config.errors import InputError

_BATCH_BYTES = 16 << 20
_SAMPLED_SHARDS, _SAMPLED_DOCUMENTS, _SAMPLED_CHARACTERS = 4, 16, 4096


class Tokenize(Stage):
    """Shards in parallel, then a source's parts joined."""

    name = "tokenize"
    version = 3

    def run(self, progress: Progress) -> Done:
        """Bring `tokens/` up to date."""
        documents, tokenizer = progress.documents, progress.done["tokenizer"]
        append_eod, shards = progress.recipe.tokenize.append_eod, documents.summary["shards"]

        def build(work: Path) -> Built:
            parts = {source: [f"{stem(name)}.part" for name in names] for source, names in shards.items()}
            fast = fast_engine(progress.recipe.tokenize.engine, load_tokenizer(tokenizer.folder), documents)
            argument = (str(tokenizer.folder), tokenizer.summary["identity"], append_eod, fast)
            tasks = {
                part: (documents.folder / name, *argument)
                for source, names in shards.items()
                for part, name in zip(parts[source], names, strict=True)
            }
            results = progress.job.map_units(self.name, work, tokenize_unit, tasks)
            merges = {source: (parts[source], tokenizer.summary, append_eod) for source in shards}
            summary = progress.job.map_units("tokenize: join", work, join_unit, merges)
            for source, about in summary.items():
                about["bytes"] = sum(results[part]["bytes"] for part in parts[source])
                lengths = [results[part]["lengths"] for part in parts[source]]
                about["lengths"] = {kind: add_up(part[kind] for part in lengths) for kind in ("bytes", "tokens")}
            return Built(summary, [f"{source}.{ending}" for source in shards for ending in ("bin", "idx", "json")])

        settings = {"append_eod": append_eod}
        depends = {"documents": documents.key, "tokenizer": tokenizer.summary["identity"], "settings": settings}
        folder = progress.job.out / "tokens"
        retire_blend(progress, self, depends, folder)
        return progress.job.run_stage(self.name, self.version, depends, folder, build)


def tokenize_unit(work: Path, name: str, task: tuple[Path, str, str, bool, bool]) -> Result:
    """Tokenize one shard into token files `NAME.bin` and `.idx`."""
    path, folder, identity, append_eod, fast = task
    tokenizer, encoder = _cached_tokenizer(folder, identity, fast)
    size, counts = 0, {"bytes": np.zeros(BINS, np.int64), "tokens": np.zeros(BINS, np.int64)}
    with IndexedWriter(work / name, token_dtype(tokenizer.vocab_size)) as writer:
        for batch in read_batches(path, ["text"]):
            sizes = text_bytes(batch["text"])
            size += int(sizes.sum())
            counts["bytes"] += count_lengths(sizes)
            for start, end in runs(sizes, _BATCH_BYTES):
                encoded = _encode(encoder, tokenizer, batch["text"].slice(start, end - start), path)
                lengths = np.diff(encoded.offsets)
                counts["tokens"] += count_lengths(lengths)
                if append_eod:
                    writer.add_batch(_with_eod(encoded, tokenizer.eod, writer.dtype), lengths + 1)
                else:
                    writer.add_batch(encoded.ids, lengths)
    return {"bytes": size, "lengths": {kind: found.tolist() for kind, found in counts.items()}}


def _with_eod(encoded: Encoded, eod: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The ids with `eod` after each document; [tokens + documents]."""
    ends = encoded.offsets[1:] + np.arange(len(encoded.offsets) - 1)
    ids = np.empty(len(encoded.ids) + len(ends), dtype)
    inside = np.ones(len(ids), bool)
    inside[ends] = False
    ids[inside] = encoded.ids
    ids[ends] = eod
    return ids


def join_unit(work: Path, name: str, task: tuple[Sequence[str], Mapping[str, Any], bool]) -> Result:
    """Join a source's parts into its token files; returns what `tokens/NAME.json` says."""
    parts, tokenizer, append_eod = task
    dtype, documents, tokens = token_dtype(tokenizer["vocab_size"]), 0, 0
    with IndexedWriter(work / name, dtype) as writer:
        for part in parts:
            info = writer.add_indexed(work / part)
            documents, tokens = documents + info.documents, tokens + info.tokens
    about = {
        "source": name,
        "documents": documents,
        "tokens": tokens,
        "dtype": str(dtype),
        "tokenizer_identity": tokenizer["identity"],
        "append_eod": append_eod,
        "bin_bytes": tokens * dtype.itemsize,
    }
    write_json(work / f"{name}.json", about)
    return about


def _encode(encoder: Encoder, tokenizer: Tokenizer, texts: pa.LargeStringArray, shard: Path) -> Encoded:
    try:
        return encoder.encode_batch(texts)
    except InputError:
        for document in read_documents(shard):  # once more, to name the one
            try:
                tokenizer.encode(document.text)
            except InputError as error:
                raise InputError(f"document {document.id}: {error}") from None
        raise


@lru_cache(maxsize=1)
def _cached_tokenizer(folder: str, identity: str, fast: bool) -> tuple[Tokenizer, Encoder]:
    tokenizer = load_tokenizer(Path(folder))
    assert tokenizer.identity == identity
    return tokenizer, GigatokenEncoder(tokenizer) if fast else tokenizer


def fast_engine(engine: str, tokenizer: Tokenizer, documents: Done) -> bool:
    """Whether gigatoken encodes this corpus: as `engine` says, and if its ids of a sample are the tokenizer's.

    Prints one line when auto does without it; raises InputError when `gigatoken` is asked for and can't be used.
    """
    if engine == "huggingface" or (engine == "auto" and not isinstance(tokenizer, HuggingFaceTokenizer)):
        return False
    try:
        encoder = GigatokenEncoder(tokenizer)
        for texts in _sample(documents):
            exact, fast = tokenizer.encode_batch(texts), encoder.encode_batch(texts)
            if not (np.array_equal(exact.ids, fast.ids) and np.array_equal(exact.offsets, fast.offsets)):
                raise Unsuited("its ids of a sample of the documents are not the same")
    except Unsuited as reason:
        if engine == "gigatoken":
            raise InputError(f"tokenize.engine: gigatoken can't be used: {reason}; set it to auto") from None
        print(f"tokenize: Hugging Face's tokenizers encode, not gigatoken: {reason}", file=sys.stderr)
        return False
    return True


def _sample(documents: Done) -> Iterator[pa.LargeStringArray]:
    """The beginnings of some documents from all over the corpus, the same for each run."""
    names = flat(documents.summary["shards"])
    for name in names[:: -(-len(names) // _SAMPLED_SHARDS)]:
        texts = read_table(documents.folder / name, ["text"])["text"].combine_chunks()
        if not len(texts):
            continue
        some = texts.take(pa.array(np.unique(np.linspace(0, len(texts) - 1, _SAMPLED_DOCUMENTS).astype(np.int64))))
        yield pc.utf8_slice_codeunits(some, 0, _SAMPLED_CHARACTERS)
