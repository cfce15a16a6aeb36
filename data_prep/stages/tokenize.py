"""Documents to Megatron's token files: `tokens/`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.execution.units import Result
from data_prep.files import write_json
from data_prep.indexed import IndexedWriter, token_dtype
from data_prep.jobs import Built, Done
from data_prep.shards import Document, read_documents
from data_prep.stages.base import Progress, Stage, stem
from data_prep.stages.tokenizer import retire_blend
from data_prep.tokenizer import Tokenizer, load_tokenizer
from megatron_nlg.config.errors import InputError

_BATCH_DOCUMENTS = 256


class Tokenize(Stage):
    """Shards in parallel, then a source's parts joined."""

    name = "tokenize"

    def run(self, progress: Progress) -> Done:
        """Bring `tokens/` up to date."""
        documents, tokenizer = progress.documents, progress.done["tokenizer"]
        append_eod, shards = progress.recipe.tokenize.append_eod, documents.summary["shards"]

        def build(work: Path) -> Built:
            parts = {source: [f"{stem(name)}.part" for name in names] for source, names in shards.items()}
            argument = (str(tokenizer.folder), tokenizer.summary["identity"], append_eod)
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
            return Built(summary, [f"{source}.{ending}" for source in shards for ending in ("bin", "idx", "json")])

        settings = {"append_eod": append_eod}
        depends = {"documents": documents.key, "tokenizer": tokenizer.summary["identity"], "settings": settings}
        folder = progress.job.out / "tokens"
        retire_blend(progress, self, depends, folder)
        return progress.job.run_stage(self.name, self.version, depends, folder, build)


def tokenize_unit(work: Path, name: str, task: tuple[Path, str, str, bool]) -> Result:
    """Tokenize one shard into token files `NAME.bin` and `.idx`."""
    path, folder, identity, append_eod = task
    tokenizer = _cached_tokenizer(folder, identity)
    end, size = [tokenizer.eod] if append_eod else [], 0
    documents = list(read_documents(path))
    with IndexedWriter(work / name, token_dtype(tokenizer.vocab_size)) as writer:
        for start in range(0, len(documents), _BATCH_DOCUMENTS):
            batch = documents[start : start + _BATCH_DOCUMENTS]
            for ids, document in zip(_encode(tokenizer, batch), batch, strict=True):
                writer.add(np.array(ids + end, dtype=np.int64))
                size += len(document.text.encode())
    return {"bytes": size}


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
        "sha256": writer.digest.hexdigest(),
    }
    write_json(work / f"{name}.json", about)
    return about


def _encode(tokenizer: Tokenizer, batch: Sequence[Document]) -> list[list[int]]:
    try:
        return tokenizer.encode_batch([document.text for document in batch])
    except InputError:
        for document in batch:  # once more, to name the one
            try:
                tokenizer.encode(document.text)
            except InputError as error:
                raise InputError(f"document {document.id}: {error}") from None
        raise


@lru_cache(maxsize=1)
def _cached_tokenizer(folder: str, identity: str) -> Tokenizer:
    tokenizer = load_tokenizer(Path(folder))
    assert tokenizer.identity == identity
    return tokenizer
