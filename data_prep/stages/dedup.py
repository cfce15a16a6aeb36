"""Deduplication of shards: keys of each shard in parallel, groups over all of them, then each shard filtered."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_prep.dedup import exact, fuzzy
from data_prep.execution.units import Result
from data_prep.files import replacing, write_text
from data_prep.jobs import Built, Done, Job, progress_bar
from data_prep.recipe import Dedup
from data_prep.shards import read_documents, read_table, write_table
from data_prep.stages.base import DocumentStage, Progress, flat, stem, sum_by_source
from data_prep.tally import Tally

KEPT, EXACT, FUZZY = 0, 1, 2
REASONS = {EXACT: "exact_duplicate", FUZZY: "fuzzy_duplicate"}
DUPLICATES = "duplicates.jsonl"


class RemoveDuplicates(DocumentStage):
    """In memory: 16 bytes and 8 a band for each document, and the n-grams of those that are candidates."""

    name = "dedup"
    mend = "it holds nothing that earlier sources do not; leave it out"

    def settings(self, progress: Progress) -> Any:
        """Its section and the seed of the permutations."""
        return [progress.recipe.dedup.model_dump(mode="json"), progress.recipe.seed]

    def build(self, progress: Progress, before: Done, work: Path) -> Built:
        """Write each shard again without its duplicates, and `duplicates.jsonl`: who went, and for whom."""
        return build_dedup(progress.job, work, before, progress.recipe.dedup, progress.recipe.seed)


def build_dedup(job: Job, work: Path, before: Done, rules: Dedup, seed: int) -> Built:
    """The stage, without its recipe."""
    shards: dict[str, list[str]] = before.summary["shards"]
    paths = {stem(name): before.folder / name for name in flat(shards)}
    keys = job.map_units("dedup: keys", work / "keys", key_unit, {n: (p, rules, seed) for n, p in paths.items()})
    sizes = [keys[name]["documents"] for name in paths]
    verdict, survivor, clusters = _groups(work / "keys", list(paths.values()), sizes, rules)
    starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    names = _ids(list(paths.values()), starts, survivor[verdict != KEPT])
    tasks = {}
    for i, (name, path) in enumerate(paths.items()):
        here = slice(starts[i], starts[i + 1])
        kept_for = {int(k): names[int(survivor[starts[i] + k])] for k in np.flatnonzero(verdict[here])}
        tasks[name] = (path, verdict[here], kept_for)
    results = job.map_units("dedup: filter", work, filter_unit, tasks)
    found = [line for name in paths for line in results[name].pop("duplicates")]
    write_text(work / DUPLICATES, "".join(found))
    summary = {"shards": shards, "sources": sum_by_source(shards, results), "clusters": clusters}
    return Built(summary, [*flat(shards), DUPLICATES])


def key_unit(work: Path, name: str, task: tuple[Path, Dedup, int]) -> Result:
    """Content hashes [documents, 2] and band keys [documents, bands] of a shard, as `NAME.npz`.

    Documents without a word have no n-grams; they get no band keys and are never near anything.
    """
    path, rules, seed = task
    # datasketch takes half a second to import
    bands, rows = fuzzy.bands_and_rows(rules) if rules.fuzzy else (1, 1)
    sign = fuzzy.signer(rules, seed) if rules.fuzzy else None
    hashes, signatures, wordless = [], [], []
    for document in read_documents(path):
        hashes.append(exact.content_hash(document.text))
        if sign:
            grams = fuzzy.shingles(document.text, rules.shingle_words)
            wordless.append(not len(grams))
            signatures.append(fuzzy.band_keys(sign(grams)[None], bands, rows)[0])
    with replacing(work / f"{name}.npz") as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            hashes=np.frombuffer(b"".join(hashes), np.uint64).reshape(-1, 2),
            keys=np.array(signatures, np.uint64).reshape(-1, bands),
            wordless=np.array(wordless, bool),
        )
    return {"documents": len(hashes)}


def _groups(
    folder: Path, paths: Sequence[Path], sizes: Sequence[int], rules: Dedup
) -> tuple[NDArray[np.int8], NDArray[np.int64], dict[str, Any]]:
    """What becomes of each document [documents], the document it is a duplicate of [documents], and counts."""
    total = sum(sizes)
    survivor = np.arange(total)
    verdict = np.zeros(total, np.int8)
    arrays = [np.load(folder / f"{path.stem}.npz") for path in paths]
    if rules.exact:
        survivor = exact.first_of_equals(np.concatenate([part["hashes"] for part in arrays]))
        verdict[survivor != np.arange(total)] = EXACT
    compared = 0
    if rules.fuzzy:
        left = np.flatnonzero((verdict == KEPT) & ~np.concatenate([part["wordless"] for part in arrays]))
        keys = np.concatenate([part["keys"] for part in arrays])[left]
        components = fuzzy.Components(total)
        groups = list(fuzzy.buckets(keys, left))
        grams = _candidate_grams(groups, paths, sizes, rules)
        with progress_bar("dedup: compare", None):
            compared = fuzzy.connect(iter(groups), grams.__getitem__, rules.threshold, components)
        root = np.fromiter((components.find(i) for i in range(total)), np.int64, total)
        verdict[root != np.arange(total)] = FUZZY
        survivor = root[survivor]  # an exact duplicate's first may itself have gone
    _, members = np.unique(survivor, return_counts=True)
    clusters = {
        "compared_pairs": compared,
        "clusters": int((members > 1).sum()),
        "largest_cluster": int(members.max(initial=0)),
    }
    return verdict, survivor, clusters


def _candidate_grams(
    groups: Sequence[NDArray[np.int64]], paths: Sequence[Path], sizes: Sequence[int], rules: Dedup
) -> dict[int, fuzzy.Shingles]:
    """n-grams of the documents in `groups`, by position."""
    wanted = np.unique(np.concatenate(groups)) if groups else np.zeros(0, np.int64)
    grams = {}
    for position, text in _pick(paths, np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]), wanted, "text"):
        grams[position] = fuzzy.shingles(text, rules.shingle_words)
    return grams


def _ids(paths: Sequence[Path], starts: NDArray[np.int64], wanted: NDArray[np.int64]) -> dict[int, str]:
    return dict(_pick(paths, starts, np.unique(wanted), "id"))


def _pick(
    paths: Sequence[Path], starts: NDArray[np.int64], wanted: NDArray[np.int64], column: str
) -> Iterator[tuple[int, str]]:
    """(position, value) of a column at sorted positions counted over all shards; shards without any are not read."""
    for i, path in enumerate(paths):
        here = wanted[np.searchsorted(wanted, starts[i]) : np.searchsorted(wanted, starts[i + 1])]
        if len(here):
            values = read_table(path, [column]).column(0).take(pa.array(here - starts[i])).to_pylist()
            yield from zip(here.tolist(), values, strict=True)


def filter_unit(work: Path, name: str, task: tuple[Path, NDArray[np.int8], Mapping[int, str]]) -> Result:
    """Write a shard without its duplicates; returns their lines for `duplicates.jsonl`."""
    path, verdict, kept_for = task
    table = read_table(path)
    tally, lines = Tally(), []
    for i, (identity, text) in enumerate(zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True)):
        size = len(text.encode())
        if verdict[i] == KEPT:
            tally.keep(size, size)
            continue
        reason = REASONS[int(verdict[i])]
        tally.drop(reason, size)
        lines.append(json.dumps({"id": identity, "kept": kept_for[i], "reason": reason}) + "\n")
    write_table(work / path.name, table.filter(pa.array(verdict == KEPT)))
    return {"tally": tally.as_json(), "duplicates": lines}
