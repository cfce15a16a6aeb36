"""Files to documents: `shards/read/` and `rejects.jsonl`."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.execution.units import Result
from data_prep.files import replacing, write_text
from data_prep.jobs import Built, Done
from data_prep.readers import python_corpus
from data_prep.readers.any import UNKNOWN_ENDING, read_file, read_python
from data_prep.readers.base import InputFile, Part
from data_prep.readers.find import units
from data_prep.readers.streams import count_lines
from data_prep.recipe import PYTHON_FORMATS, Source
from data_prep.shards import ShardWriter, text_bytes
from data_prep.stages.base import Progress, Stage, flat, lines, refuse_empty
from data_prep.tally import Tally
from megatron_nlg.config.errors import InputError

REJECTS = "rejects.jsonl"
_SHOWN_REJECTS = 3


class Read(Stage):
    """Where the chain of documents begins."""

    name = "read"

    def run(self, progress: Progress) -> Done:
        """Bring `shards/read` up to date."""
        recipe, plan = progress.recipe, progress.inputs.files
        depends = {
            "sources": {s.name: s.model_dump(mode="json", exclude={"weight"}) for s in recipe.sources},
            "order": [s.name for s in recipe.sources],
            "shard_bytes": recipe.shard_bytes,
            "inputs": {s.name: _fingerprint(s, plan[s.name]) for s in recipe.sources},
        }
        folder = progress.job.out / "shards" / self.name
        done = progress.job.run_stage(
            self.name, self.version, depends, folder, lambda work: self._build(progress, work, plan)
        )
        refuse_rejects(done.summary["sources"], recipe.read.max_reject_share, folder / REJECTS)
        return done

    def _build(self, progress: Progress, work: Path, plan: Mapping[str, list[InputFile]]) -> Built:
        recipe = progress.recipe
        tasks: dict[str, Any] = {}
        for source in recipe.sources:
            runs = [[]] if source.format in PYTHON_FORMATS else list(units(plan[source.name], recipe.shard_bytes))
            tasks |= {f"{source.name}-{i:05d}": (source, run, recipe.shard_bytes) for i, run in enumerate(runs)}
        tasks = _with_lines(progress, work, tasks)
        results = progress.job.map_units(self.name, work, read_unit, tasks)
        shards: dict[str, list[str]] = {source.name: [] for source in recipe.sources}
        tallies: dict[str, list[Any]] = {source.name: [] for source in recipe.sources}
        with replacing(work / REJECTS) as temporary, temporary.open("w", encoding="utf-8") as stream:
            for name, result in results.items():
                source = tasks[name][0].name
                shards[source] += result["shards"]
                tallies[source].append(result["tally"])
                stream.writelines(lines(work / f"{name}.rejects"))
        counts = {name: Tally.sum(parts) for name, parts in tallies.items()}
        refuse_empty(counts, self.name, f"{REJECTS} lists them", work / REJECTS)
        refuse_rejects(counts, recipe.read.max_reject_share, work / REJECTS)
        return Built({"shards": shards, "sources": counts}, [*flat(shards), REJECTS])


def _with_lines(progress: Progress, work: Path, tasks: Mapping[str, Any]) -> dict[str, Any]:
    """The tasks with the number of the first line of each range of a file, which its lines' ids need."""
    ranges = {name: run[0] for name, (_, run, _) in tasks.items() if run and run[0].end is not None}
    if not ranges:
        return dict(tasks)
    counts = progress.job.map_units("read: lines", work / "lines", count_unit, ranges)
    out = dict(tasks)
    for path in dict.fromkeys((tasks[name][0].name, file.path) for name, file in ranges.items()):
        names = [name for name, file in ranges.items() if (tasks[name][0].name, file.path) == path]
        firsts = accumulate((counts[name]["lines"] for name in names), initial=1)
        for name, first in zip(names, firsts, strict=False):  # one more than there are ranges: where the file ends
            source, (file,), size = out[name]
            out[name] = (source, [file._replace(line=first)], size)
    return out


def count_unit(work: Path, name: str, file: InputFile) -> Result:
    """Lines that start in a range of a file."""
    assert file.end is not None
    return {"lines": count_lines(Path(file.path), file.start, file.end)}


def read_unit(work: Path, name: str, task: tuple[Source, list[InputFile], int]) -> Result:
    """Read a run of files into shards `NAME-000.parquet`, …, and a file of rejects."""
    source, files, shard_bytes = task
    tally = Tally()
    shards: list[str] = []
    with io.StringIO() as rejects:
        batches = _documents(_parts(source, files), tally, source.name, rejects)
        for shard in _cut(batches, shard_bytes):
            shards.append(f"{name}-{len(shards):03d}.parquet")
            with ShardWriter(work / shards[-1]) as writer:
                for batch in shard:
                    writer.write(batch)
        write_text(work / f"{name}.rejects", rejects.getvalue())
    return {"shards": shards, "tally": tally.as_json()}


def _parts(source: Source, files: Sequence[InputFile]) -> Iterator[Part]:
    if source.format in PYTHON_FORMATS:
        yield from read_python(source)
    for file in files:
        yield from read_file(file, source)


def _documents(parts: Iterator[Part], tally: Tally, source: str, rejects: io.StringIO) -> Iterator[pa.RecordBatch]:
    """The batches that hold documents; the tally and the rejects are written on the way."""
    for documents, rejected in parts:
        for item in rejected:
            tally.drop(item.reason, item.size)
            rejects.write(json.dumps({"source": source, **item._asdict()}, ensure_ascii=False) + "\n")
        if documents.num_rows:
            sizes = text_bytes(documents.column("text"))
            tally.keep_all(sizes, sizes)
            yield documents


def _cut(batches: Iterator[pa.RecordBatch], shard_bytes: int) -> Iterator[Iterator[pa.RecordBatch]]:
    """Batches shard by shard; a shard ends with the document that brings it to `shard_bytes`. Use each up in turn."""
    rest = next(batches, None)

    def shard() -> Iterator[pa.RecordBatch]:
        nonlocal rest
        size = 0
        while rest is not None:
            ends = size + np.cumsum(text_bytes(rest.column("text")))
            cut = int(np.searchsorted(ends, shard_bytes)) + 1
            if cut <= rest.num_rows:
                whole = cut == rest.num_rows
                yield rest.slice(0, cut)
                rest = next(batches, None) if whole else rest.slice(cut)
                return
            size = int(ends[-1])
            yield rest
            rest = next(batches, None)

    while rest is not None:
        yield shard()


def refuse_rejects(counts: Mapping[str, Any], limit: float, rejects: Path) -> None:
    """Stop when a larger share of a source's records than `limit` can't be read: a wrong setting, not dirt."""
    for source, tally in counts.items():
        reasons = {r: n["documents"] for r, n in tally["dropped"].items() if r != UNKNOWN_ENDING}
        total, bad = tally["documents_out"] + sum(reasons.values()), sum(reasons.values())
        if total and bad / total > limit:
            dropped = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
            raise InputError(
                f"source {source}: {bad:,} of {total:,} records ({bad / total:.0%}) can't be read ({dropped}), more "
                f"than read.max_reject_share {limit:g} allows; mend the source, or raise read.max_reject_share. "
                f"The first:{_first_rejects(rejects, source)}"
            )


def _first_rejects(path: Path, source: str) -> str:
    """A line each."""
    shown: list[str] = []
    for reject in map(json.loads, lines(path)):
        if reject["source"] == source and reject["reason"] != UNKNOWN_ENDING and len(shown) < _SHOWN_REJECTS:
            where = reject["file"] if reject["line"] is None else f"{reject['file']}:{reject['line']}"
            shown.append(f"\n  {where}: {reject['reason']} {reject['detail']}")
    return "".join(shown)


def _fingerprint(source: Source, files: Sequence[InputFile]) -> Any:
    if source.format in PYTHON_FORMATS:
        return python_corpus.fingerprint()
    stats = [(file.name, Path(file.path).stat()) for file in files]
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]
