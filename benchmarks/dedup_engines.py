"""Deduplication by this project and by its peers, each from a list of texts or a JSONL file to a label a document.

All use 128 min-hashes in 16 bands of 8 and sets of 5 words, each its own words: white space for the peers. rensa's row
has the check of the estimated similarity that its README recommends.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.dedup.fuzzy import find_duplicates
from data_prep.dedup.shingles import Shingling, shingles
from data_prep.recipe import Dedup

PERMUTATIONS, BANDS, ROWS, THRESHOLD = 128, 16, 8, 0.8
Labels = Sequence[int]


class Union:
    """Connected components of labels."""

    def __init__(self, count: int):
        self.parent = list(range(count))

    def find(self, i: int) -> int:
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i

    def join(self, a: int, b: int) -> None:
        a, b = self.find(a), self.find(b)
        self.parent[max(a, b)] = min(a, b)

    def labels(self) -> list[int]:
        return [self.find(i) for i in range(len(self.parent))]


def word_grams(text: str) -> set[str]:
    """5-grams of white-space words: what the peers' users write."""
    words = text.lower().split()
    return {" ".join(words[i : i + 5]) for i in range(max(1, len(words) - 4))}


def ours(texts: pa.Array, threads: int = 1) -> Labels:
    """Texts as this project's readers hand them on: an Arrow array."""
    return find_duplicates(texts, Dedup(), threads=threads).cluster.tolist()


def ours_from_jsonl(path: Path) -> Labels:
    import polars

    column = polars.read_ndjson(path)["text"].to_arrow()
    return ours(column.cast(pa.large_string()))


def rensa(texts: Sequence[str]) -> Labels:
    from rensa import RMinHash, RMinHashLSH

    hashes = RMinHash.from_token_sets((list(word_grams(text)) for text in texts), PERMUTATIONS, 42)
    index = RMinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS, num_bands=BANDS)
    index.insert_many(hashes)
    union = Union(len(texts))
    for i, near in enumerate(index.query_all(hashes)):
        for j in near:
            if j < i and hashes[i].jaccard(hashes[j]) >= THRESHOLD:
                union.join(i, j)
    return union.labels()


def datasketch(texts: Sequence[str], fast_hash: bool) -> Labels:
    from datasketch import MinHash, MinHashLSH

    sets = ([gram.encode() for gram in word_grams(text)] for text in texts)
    options: dict[str, Any] = {}
    if fast_hash:
        import xxhash

        options["hashfunc"] = xxhash.xxh32_intdigest
    hashes = MinHash.bulk(sets, num_perm=PERMUTATIONS, **options)
    index = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS, params=(BANDS, ROWS))
    with index.insertion_session() as session:
        for i, minhash in enumerate(hashes):
            session.insert(i, minhash, check_duplication=False)
    union = Union(len(texts))
    for i, minhash in enumerate(hashes):
        for j in index.query(minhash):
            if j < i:
                union.join(i, j)
    return union.labels()


def datatrove(path: Path) -> Labels:
    """Its whole pipeline with one worker, words by str.split (its own spaCy words are several times slower)."""
    import xxhash
    from datatrove.executor.local import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup import minhash as module
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter
    from datatrove.utils.hashing import HashConfig

    class Split:
        def word_tokenize(self, text: str) -> list[str]:
            return text.split()

    module.load_word_tokenizer = lambda _: Split()
    config = module.MinhashConfig(5, BANDS, ROWS, hash_config=HashConfig(precision=64))
    with tempfile.TemporaryDirectory(prefix="datatrove-") as folder:
        Path(folder, "in").mkdir()
        os.link(path, f"{folder}/in/0.jsonl")
        sign = MinhashDedupSignature(f"{folder}/sig", config=config)
        sign._hash_func = lambda gram: xxhash.xxh64_intdigest(gram.encode())  # its own fails with xxhash 4
        stages = [
            ([JsonlReader(f"{folder}/in"), sign], 1),
            ([MinhashDedupBuckets(f"{folder}/sig", f"{folder}/buckets", config=config)], BANDS),
            ([MinhashDedupCluster(f"{folder}/buckets", f"{folder}/gone", config=config, save_cluster_id=True)], 1),
            (
                [
                    JsonlReader(f"{folder}/in"),
                    MinhashDedupFilter(f"{folder}/gone"),
                    JsonlWriter(f"{folder}/out", compression=None),
                ],
                1,
            ),
        ]
        for i, (pipeline, tasks) in enumerate(stages):
            LocalPipelineExecutor(pipeline, tasks=tasks, workers=1, logging_dir=f"{folder}/log{i}").run()
        with path.open("rb") as stream:
            labels = list(range(sum(1 for _ in stream)))
        for file in Path(folder, "gone").glob("*.clusters"):
            for document, cluster in struct.iter_unpack("<2I", file.read_bytes()):
                labels[document] = len(labels) + cluster
    return labels


def from_jsonl(path: Path) -> Iterator[str]:
    """Texts by the fastest reader that gives Python strings."""
    import orjson

    with path.open("rb") as stream:
        for line in stream:
            yield orjson.loads(line)["text"]


def kernel_only(texts: pa.Array) -> dict[str, Callable[[], Any]]:
    """rensa's flat kernel and this project's, from the same shingle hashes in memory."""
    from rensa import RMinHash

    from data_prep.dedup.compiled import kernel
    from data_prep.dedup.shingles import permutations

    sets = shingles(texts, Shingling())
    rows = sets.documents.astype(np.uint64)
    factors, terms = permutations(PERMUTATIONS, 1)
    out = np.empty((len(texts), PERMUTATIONS), np.uint32)
    return {
        "rensa, flat": lambda: RMinHash.digest_matrix_from_flat_token_hashes(sets.hashes, rows, PERMUTATIONS, 42),
        "this project": lambda: kernel().minima(sets.hashes, sets.documents, factors, terms, out),
    }


ENGINES: dict[str, tuple[str, Callable[[Any], Labels]]] = {
    "this project": ("arrow", ours),
    "rensa": ("texts", rensa),
    "datasketch bulk, xxh32": ("texts", lambda texts: datasketch(texts, True)),
    "datasketch bulk, SHA-1": ("texts", lambda texts: datasketch(texts, False)),
    "this project, JSONL read by polars": ("jsonl", ours_from_jsonl),
    "rensa, JSONL read by orjson": ("jsonl", lambda path: rensa(list(from_jsonl(path)))),
    "datasketch bulk, xxh32, JSONL read by orjson": ("jsonl", lambda path: datasketch(list(from_jsonl(path)), True)),
    "datatrove, whole pipeline": ("jsonl", datatrove),
}
"""name -> (what it starts from, function)."""
