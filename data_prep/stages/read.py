"""Files to documents: `shards/read/` and `rejects.jsonl`."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.execution.units import Result
from data_prep.files import replacing, write_text
from data_prep.jobs import Built, Done
from data_prep.readers import python_corpus
from data_prep.readers.text import InputFile, Reject, read_file, units
from data_prep.recipe import PYTHON_FORMATS, Source
from data_prep.shards import Document, write_shard
from data_prep.stages.base import Progress, Stage, flat, lines, refuse_empty
from data_prep.tally import Tally

REJECTS = "rejects.jsonl"


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
        return progress.job.run_stage(
            self.name, self.version, depends, folder, lambda work: self._build(progress, work, plan)
        )

    def _build(self, progress: Progress, work: Path, plan: Mapping[str, list[InputFile]]) -> Built:
        recipe = progress.recipe
        tasks: dict[str, Any] = {}
        for source in recipe.sources:
            runs = [[]] if source.format in PYTHON_FORMATS else list(units(plan[source.name], recipe.shard_bytes))
            tasks |= {f"{source.name}-{i:05d}": (source, run, recipe.shard_bytes) for i, run in enumerate(runs)}
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
        return Built({"shards": shards, "sources": counts}, [*flat(shards), REJECTS])


def read_unit(work: Path, name: str, task: tuple[Source, list[InputFile], int]) -> Result:
    """Read a run of files into shards `NAME-000.parquet`, …, and a file of rejects."""
    source, files, shard_bytes = task
    tally, size = Tally(), 0
    batch: list[Document] = []
    shards: list[str] = []

    def flush() -> None:
        shards.append(f"{name}-{len(shards):03d}.parquet")
        write_shard(work / shards[-1], batch)

    with io.StringIO() as rejects:
        for item in _items(source, files):
            if isinstance(item, Reject):
                tally.drop(item.reason, item.size)
                about = {"source": source.name, **item._asdict()}
                rejects.write(json.dumps(about, ensure_ascii=False) + "\n")
                continue
            length = len(item.text.encode())
            tally.keep(length, length)
            batch.append(item)
            size += length
            if size >= shard_bytes:
                flush()
                batch, size = [], 0
        if batch:
            flush()
        write_text(work / f"{name}.rejects", rejects.getvalue())
    return {"shards": shards, "tally": tally.as_json()}


def _items(source: Source, files: Sequence[InputFile]) -> Iterator[Document | Reject]:
    if source.format == "python_documentation":
        yield from python_corpus.read_documentation(source.name)
    elif source.format == "python_modules":
        yield from python_corpus.read_modules(source.name)
    for file in files:
        yield from read_file(file, source)


def _fingerprint(source: Source, files: Sequence[InputFile]) -> Any:
    if source.format in PYTHON_FORMATS:
        return python_corpus.fingerprint()
    stats = [(file.name, Path(file.path).stat()) for file in files]
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]
