"""Deduplication of shards: groups over all of them (data_prep/dedup), then each shard filtered."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data_prep.dedup.clusters import Verdict
from data_prep.dedup.partitioned import Shards, find_duplicates
from data_prep.execution.units import Result
from data_prep.files import replacing
from data_prep.jobs import Built, Done, Job
from data_prep.recipe import Dedup
from data_prep.shards import read_table, text_bytes, write_table
from data_prep.stages.base import DocumentStage, Progress, flat, stem, sum_by_source
from data_prep.tally import Tally

KEPT, EXACT, FUZZY = 0, 1, 2
REASONS = {EXACT: "exact_duplicate", FUZZY: "fuzzy_duplicate"}
DUPLICATES = "duplicates.jsonl"
CLUSTERS = "clusters.npz"
"""`cluster`, the position of its first member, and `keep`; both [documents], over all shards of the stage before."""


class RemoveDuplicates(DocumentStage):
    """Over all sources at once; the first document of the first source survives."""

    name = "dedup"
    version = 2
    mend = "it holds nothing that earlier sources do not; leave it out"

    def settings(self, progress: Progress) -> Any:
        """Its section and the seed of the permutations."""
        return [progress.recipe.dedup.model_dump(mode="json", exclude={"memory"}), progress.recipe.seed]

    def build(self, progress: Progress, before: Done, work: Path) -> Built:
        """Write each shard again without its duplicates, and `duplicates.jsonl`: who went, and for whom."""
        return build_dedup(progress.job, work, before, progress.recipe.dedup, progress.recipe.seed)


def build_dedup(job: Job, work: Path, before: Done, rules: Dedup, seed: int) -> Built:
    """The stage, without its recipe."""
    names: dict[str, list[str]] = before.summary["shards"]
    paths = {stem(name): before.folder / name for name in flat(names)}
    shards = Shards(paths, starts_of(paths.values()))
    verdict = find_duplicates(job, work / "duplicates", shards, rules, seed)
    results = _filter(job, work, shards, verdict)
    with replacing(work / CLUSTERS) as temporary, temporary.open("wb") as stream:
        np.savez(stream, cluster=verdict.cluster, keep=verdict.keep)
    with replacing(work / DUPLICATES) as temporary, temporary.open("wb") as stream:
        for name in paths:
            stream.write((work / f"{name}.duplicates").read_bytes())
    large = np.array([about["first"] for about in verdict.summary["over_max_cluster"]], np.int64)
    for about, identity in zip(verdict.summary["over_max_cluster"], ids(shards, large), strict=True):
        about["first"] = identity
    counts = sum_by_source(names, results)
    summary = {"shards": names, "sources": counts, "clusters": verdict.summary, "before": before.name}
    return Built(summary, [*flat(names), DUPLICATES, CLUSTERS])


def starts_of(paths: Iterable[Path]) -> NDArray[np.int64]:
    """First document of each shard, and the number of documents; [shards + 1]."""
    sizes = []
    for path in paths:
        with path.open("rb") as stream:
            sizes.append(pq.read_metadata(stream).num_rows)
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])


def _filter(job: Job, work: Path, shards: Shards, verdict: Verdict) -> dict[str, Result]:
    """Write each shard without its duplicates."""
    positions = np.arange(len(verdict.keep))
    fate = np.where(verdict.keep, KEPT, np.where(verdict.exact != positions, EXACT, FUZZY)).astype(np.int8)
    survivor = np.where(verdict.keep[verdict.exact], verdict.exact, verdict.cluster)
    gone = np.flatnonzero(fate)
    wanted, which = np.unique(survivor[gone], return_inverse=True)
    names = ids(shards, wanted)
    cuts = np.searchsorted(gone, shards.starts)
    tasks = {}
    for i, (name, path) in enumerate(shards.paths.items()):
        kept_for = [names[k] for k in which[cuts[i] : cuts[i + 1]].tolist()]
        tasks[name] = (path, fate[shards.starts[i] : shards.starts[i + 1]], kept_for)
    return job.map_units("dedup: filter", work, filter_unit, tasks)


def filter_unit(work: Path, name: str, task: tuple[Path, NDArray[np.int8], Sequence[str]]) -> Result:
    """Write a shard without its duplicates, and their lines of `duplicates.jsonl` to `NAME.duplicates`."""
    path, fate, kept_for = task
    table, tally = read_table(path), Tally()
    sizes = text_bytes(table["text"])
    tally.keep_all(sizes[fate == KEPT], sizes[fate == KEPT])
    for code, reason in REASONS.items():
        tally.drop_all(reason, sizes[fate == code])
    gone = np.flatnonzero(fate)
    with replacing(work / f"{name}.duplicates") as temporary, temporary.open("w", encoding="utf-8") as stream:
        for identity, kept, code in zip(
            table["id"].take(pa.array(gone)).to_pylist(), kept_for, fate[gone], strict=True
        ):
            stream.write(json.dumps({"id": identity, "kept": kept, "reason": REASONS[int(code)]}) + "\n")
    write_table(work / path.name, table.filter(pa.array(fate == KEPT)))
    return {"tally": tally.as_json()}


def ids(shards: Shards, wanted: NDArray[np.int64]) -> list[str]:
    """Ids of documents at sorted positions."""
    return [value for _, value in pick(shards, wanted, "id")]


def pick(shards: Shards, wanted: NDArray[np.int64], column: str) -> Iterator[tuple[int, str]]:
    """(position, value) of a column at sorted positions counted over all shards; shards without any are not read."""
    for i, path in enumerate(shards.paths.values()):
        here = wanted[np.searchsorted(wanted, shards.starts[i]) : np.searchsorted(wanted, shards.starts[i + 1])]
        if len(here):
            values = read_table(path, [column]).column(0).take(pa.array(here - shards.starts[i])).to_pylist()
            yield from zip(here.tolist(), values, strict=True)
