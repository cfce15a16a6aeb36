"""The same as fuzzy.find_duplicates over shards, out of core and in units that resume.

sign: each shard's content hashes, signatures and band keys, the keys sorted by range. bands: each unit reads one range
of one band from all shards, the shuffle. sets: the shingles of documents in doubtful pairs, shard by shard. compare:
those pairs, block by block. Held in this process: 16 bytes a document for content hashes, 25 for the verdict, and the
pairs. Units map signatures from disk, and touch those of candidates only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data_prep.dedup import candidates, exact
from data_prep.dedup.arrays import load, save
from data_prep.dedup.candidates import Candidates
from data_prep.dedup.clusters import Verdict, cluster, judge
from data_prep.dedup.fuzzy import doubtful, has_units, signing
from data_prep.dedup.shingles import Positions, Sets, band_keys, content_hashes, jaccard, shingles, signatures
from data_prep.execution.units import Result
from data_prep.jobs import Job
from data_prep.recipe import Dedup
from megatron_nlg.config.errors import InputError

_KEY_BYTES = 40  # of memory for a key that is compared: itself, its document, and what groups them
_UNIT_KEYS = 1 << 22  # in a unit of bands: fewer make no work worth a unit
_PAIRS = 4096  # in a unit of comparison
_TEXTS = 2048  # in memory at once


class Shards(NamedTuple):
    """Documents in order of priority."""

    paths: Mapping[str, Path]
    """Parquet files by the name of their unit."""
    starts: Positions
    """First document of each, and the number of documents; [shards + 1]."""


def find_duplicates(job: Job, work: Path, shards: Shards, rules: Dedup, seed: int) -> Verdict:
    """Exact and near-duplicates of all documents in `shards`; `work` holds what units write."""
    total = int(shards.starts[-1])
    if total >= 1 << 32:
        raise InputError(f"{total:,} documents: deduplication counts up to 4,294,967,295; prepare the corpus in parts")
    ranges = 1
    while total * _KEY_BYTES // ranges > rules.memory:
        ranges *= 2
    work /= f"{ranges}-ranges"  # no output depends on rules.memory; the units' files do
    bands, rows = candidates.bands_and_rows(rules) if rules.fuzzy else (0, 0)
    tasks = {name: (path, rules, seed, bands, rows, ranges) for name, path in shards.paths.items()}
    job.map_units("dedup: sign", work / "signed", sign_unit, tasks)
    first = np.arange(total)
    if rules.exact:
        hashes = [Signed(*load(work / "signed" / name)).hashes for name in shards.paths]
        first = exact.first_of_equals(np.concatenate([np.zeros((0, 2), np.uint64), *hashes]))
    near, similarity = np.arange(total), np.zeros(0)
    if rules.fuzzy:
        if not (work / "left").exists():
            save(work / "left", first == np.arange(total))
        found = _candidates(job, work, shards, rules, bands * ranges, ranges)
        similarity = _verify(job, work, shards, rules, seed, found)
        near = cluster(found.pairs[similarity >= rules.threshold], total, rules)
    return judge(first, near, similarity, rules)


def sign_unit(work: Path, name: str, task: tuple[Path, Dedup, int, int, int, int]) -> Result:
    """A shard's content hashes, signatures, and keys with their documents, into `NAME`: see Signed."""
    path, rules, seed, bands, rows, ranges = task
    all_hashes, all_signed = [np.zeros((0, 2), np.uint64)], [np.zeros((0, rules.num_perm), np.uint32)]
    documents = 0
    for texts in read_texts(path):
        documents += len(texts)
        if rules.exact:
            all_hashes.append(content_hashes(texts))
        if rules.fuzzy:
            all_signed.append(signatures(texts, signing(rules, seed)))
    signed = np.concatenate(all_signed)
    some = np.flatnonzero(has_units(signed))
    keys = band_keys(signed[some], bands, rows)
    part = keys >> np.uint64(65 - ranges.bit_length()) if ranges > 1 else np.zeros_like(keys)
    order = np.argsort(part, axis=1, kind="stable")
    counts = [np.bincount(row.astype(np.int64), minlength=ranges) for row in part]
    offsets = np.cumsum(np.concatenate([[0], *counts]), dtype=np.int64)
    keys = np.take_along_axis(keys, order, axis=1).reshape(-1)
    save(work / name, np.concatenate(all_hashes), signed, keys, some[order].astype(np.uint32).reshape(-1), offsets)
    return {"documents": documents}


class Signed(NamedTuple):
    """What sign_unit writes."""

    hashes: NDArray[np.uint64]
    """[documents, 2]; none without exact deduplication."""
    signatures: NDArray[np.uint32]
    """[documents, permutations]; none without fuzzy deduplication."""
    keys: NDArray[np.uint64]
    """By band, then range (their upper bits), then document; those of documents without a shingle are left out."""
    documents: NDArray[np.uint32]
    """Of the keys."""
    offsets: Positions
    """First key of part band × ranges + range, and the number of keys; [bands × ranges + 1]."""


def _candidates(job: Job, work: Path, shards: Shards, rules: Dedup, parts: int, ranges: int) -> Candidates:
    """Pairs that a band's keys and then signatures call similar, over all parts."""
    each = max(1, _UNIT_KEYS * ranges // max(1, int(shards.starts[-1])))
    units = {f"{i:06d}": (shards, rules, range(i, min(parts, i + each))) for i in range(0, parts, each)}
    job.map_units("dedup: bands", work / "bands", bands_unit, units)
    return candidates.once(np.concatenate([load(work / "bands" / unit)[0] for unit in units]), rules)


def bands_unit(work: Path, name: str, task: tuple[Shards, Dedup, range]) -> Result:
    """Candidates of some parts (ranges of bands) over all shards, into `NAME`: kernel's rows."""
    shards, rules, parts = task
    _allow_open_files(len(shards.paths))
    signed = [Signed(*load(work.parent / "signed" / shard)) for shard in shards.paths]
    (left,) = load(work.parent / "left")
    found = []
    for part in parts:
        keys, documents = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint32)]
        for start, shard in zip(shards.starts.tolist(), signed, strict=False):
            begin, end = shard.offsets[part : part + 2]
            here = shard.documents[begin:end] + np.uint32(start)
            documents.append(here[left[here]])
            keys.append(shard.keys[begin:end][left[here]])
        here, values = np.concatenate(documents), np.concatenate(keys)[None]
        found.append(candidates.rows(values, here, [shard.signatures for shard in signed], rules))
    save(work / name, np.concatenate(found))
    return {"candidates": sum(map(len, found))}


def _verify(job: Job, work: Path, shards: Shards, rules: Dedup, seed: int, found: Candidates) -> NDArray[np.float64]:
    """Similarity of candidates: exact Jaccard in the doubtful zone, else the agreement; [candidates]."""
    similarity = found.agreement.copy()
    where = np.flatnonzero(doubtful(found, rules))
    members = np.unique(found.pairs[where])
    cuts = np.searchsorted(members, shards.starts)
    tasks: dict[str, Any] = {}
    for i, (name, path) in enumerate(shards.paths.items()):
        if cuts[i] < cuts[i + 1]:
            tasks[name] = (path, rules, seed, members[cuts[i] : cuts[i + 1]] - shards.starts[i])
    job.map_units("dedup: sets", work / "sets", sets_unit, tasks)
    firsts = np.concatenate([[0], np.cumsum([len(task[3]) for task in tasks.values()], dtype=np.int64)])
    blocks = {f"{i:06d}": where[start : start + _PAIRS] for i, start in enumerate(range(0, len(where), _PAIRS))}
    units = {n: (list(tasks), firsts, np.searchsorted(members, found.pairs[at])) for n, at in blocks.items()}
    job.map_units("dedup: compare", work / "pairs", compare_unit, units)
    for name, at in blocks.items():
        (similarity[at],) = load(work / "pairs" / name)
    return similarity


def sets_unit(work: Path, name: str, task: tuple[Path, Dedup, int, Positions]) -> Result:
    """Shingles of some documents of a shard, into `NAME`: Sets."""
    path, rules, seed, rows = task
    hashes, lengths, first = [np.zeros(0, np.uint64)], [np.zeros(1, np.int64)], 0
    for texts in read_texts(path):
        here = rows[np.searchsorted(rows, first) : np.searchsorted(rows, first + len(texts))] - first
        if len(here):
            sets = shingles(texts.take(pa.array(here)), signing(rules, seed).shingling)
            hashes.append(sets.hashes)
            lengths.append(np.diff(sets.documents))
        first += len(texts)
    save(work / name, np.concatenate(hashes), np.cumsum(np.concatenate(lengths)))
    return {"shingles": sum(map(len, hashes))}


def compare_unit(work: Path, name: str, task: tuple[Sequence[str], Positions, Positions]) -> Result:
    """Exact Jaccard similarity of pairs [pairs, 2] of the documents that sets_unit wrote, into `NAME`."""
    names, firsts, pairs = task
    members, local = np.unique(pairs, return_inverse=True)
    hashes, lengths = [np.zeros(0, np.uint64)], [np.zeros(1, np.int64)]
    cuts = np.searchsorted(members, firsts)
    for i, shard in enumerate(names):
        rows = members[cuts[i] : cuts[i + 1]] - firsts[i]
        if len(rows):
            content, at = Sets(*load(work.parent / "sets" / shard))
            hashes += [content[at[row] : at[row + 1]] for row in rows]
            lengths.append(np.diff(at)[rows])
    sets = Sets(np.concatenate(hashes), np.cumsum(np.concatenate(lengths)))
    save(work / name, jaccard(sets, local.reshape(-1, 2)))
    return {"pairs": len(pairs)}


def read_texts(path: Path) -> Iterator[pa.Array]:
    """The texts of a shard, some thousand at a time, so that memory does not depend on the shard's size."""
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_TEXTS, columns=["text"], use_threads=False):
                yield batch.column(0)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: not a readable shard: {error}; remove its folder and prepare again") from None


def _allow_open_files(count: int) -> None:
    """A mapped file is an open file: raise the limit as far as it takes, and as far as one may."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * count + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
