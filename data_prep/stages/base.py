"""What a stage is: a key of all that its output depends on, and a function that builds its folder.

`DocumentStage`s make the chain of documents: each reads the Parquet shards of the one before and writes its own;
`ShardStage`s of these look at one shard at a time. The other stages (tokenizer, tokens, blend) read what the chain
ends with.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_prep.blend import Blend
from data_prep.execution.units import Result
from data_prep.jobs import Built, Done, Job
from data_prep.readers.base import InputFile
from data_prep.recipe import Recipe
from data_prep.shards import copy_shard, read_batches, text_bytes
from data_prep.tally import Tally
from data_prep.tokenizer import Tokenizer
from megatron_nlg.config.base import Section
from megatron_nlg.config.errors import InputError


class Inputs(NamedTuple):
    """What a recipe reads: each source's files, and the tokenizer when one is given."""

    files: dict[str, list[InputFile]]
    tokenizer: Tokenizer | None


@dataclass
class Progress:
    """A preparation on its way: what stages are given."""

    recipe: Recipe
    inputs: Inputs
    job: Job
    done: dict[str, Done] = field(default_factory=dict)
    """Stages finished so far, by name, in order."""

    @property
    def documents(self) -> Done:
        """The last finished stage of the chain of documents."""
        return next(done for done in reversed(self.done.values()) if "shards" in done.summary)


class Stage(ABC):
    """One step of a preparation; stages hold no state."""

    name: ClassVar[str]
    """Its subcommand, its section in stats.json, its folder."""
    version: ClassVar[int] = 1
    """Raised when its output changes for the same recipe, so that old folders are not taken for new."""

    def wanted(self, recipe: Recipe) -> bool:
        """Whether the recipe asks for this stage."""
        return True

    @abstractmethod
    def run(self, progress: Progress) -> Done | Blend:
        """Bring the stage's output up to date."""


class DocumentStage(Stage):
    """Documents in, documents out, in `shards/NAME`.

    Its summary has `shards` (source -> names of its shards, in order) and `sources` (source -> tally).
    """

    mend: ClassVar[str]
    """What to do when it leaves a source without a document."""

    @abstractmethod
    def settings(self, progress: Progress) -> Any:
        """The part of the recipe that the output depends on, as JSON; the documents that come in are in the key too."""

    @abstractmethod
    def build(self, progress: Progress, before: Done, work: Path) -> Built:
        """Write the shards into `work`."""

    def run(self, progress: Progress) -> Done:
        """Bring `shards/NAME` up to date."""
        before = progress.documents

        def build(work: Path) -> Built:
            built = self.build(progress, before, work)
            refuse_empty(built.summary["sources"], self.name, self.mend)
            return built

        depends = {"documents": before.key, "settings": self.settings(progress)}
        return progress.job.run_stage(self.name, self.version, depends, progress.job.out / "shards" / self.name, build)


Unit = Callable[[Path, str, tuple[Path, Any]], Result]
"""`unit(work, NAME, (shard, rules))`: writes `work/NAME.parquet` and returns `{"tally": …}`, and what else it counted.
Importable by worker processes. Files that it writes beside the shard begin with its NAME."""


class ShardStage(DocumentStage):
    """A stage that looks at one shard at a time: `rules` and `unit` are all that there is to it."""

    @abstractmethod
    def rules(self, recipe: Recipe) -> Section:
        """Its section of the recipe, which goes to every unit. A `sources` field restricts it to some sources."""

    @property
    @abstractmethod
    def unit(self) -> Unit:
        """What is done to a shard."""

    def settings(self, progress: Progress) -> Any:
        """Its section."""
        return self.rules(progress.recipe).model_dump(mode="json")

    def build(self, progress: Progress, before: Done, work: Path) -> Built:
        """Run the unit on every shard of the sources it is for; shards of others are taken over."""
        rules, shards = self.rules(progress.recipe), before.summary["shards"]
        only = getattr(rules, "sources", None)
        results: dict[str, Result] = {}
        for unit, chosen in ((self.unit, True), (take_over_unit, False)):
            names = [n for s, part in shards.items() if (only is None or s in only) == chosen for n in part]
            tasks = {stem(name): (before.folder / name, rules) for name in names}
            if tasks:
                results |= progress.job.map_units(self.name, work, unit, tasks)
        summary = {"shards": shards, "sources": sum_by_source(shards, results)}
        return Built(summary | self.summarize(results), flat(shards))

    def summarize(self, results: Mapping[str, Result]) -> dict[str, Any]:
        """What else goes into the stage's summary, from the results of all shards by NAME."""
        return {}


def take_over_unit(work: Path, name: str, task: tuple[Path, Any]) -> Result:
    """A shard of a source that the stage is not for, as it is."""
    path, _ = task
    tally = Tally()
    for batch in read_batches(path, ["text"]):
        sizes = text_bytes(batch.column("text"))
        tally.keep_all(sizes, sizes)
    copy_shard(path, work / path.name)
    return {"tally": tally.as_json()}


def keep_documents(
    batch: pa.RecordBatch, sizes_in: NDArray[np.int64], reasons: Iterable[tuple[str, NDArray[np.bool_]]], tally: Tally
) -> pa.RecordBatch:
    """A batch without the documents that a reason holds for ([documents] each); the first reason is the one counted.

    `sizes_in` [documents]: bytes of text that came into the stage.
    """
    keep = np.ones(batch.num_rows, bool)
    for reason, mask in reasons:
        tally.drop_all(reason, sizes_in[keep & mask])
        keep &= ~mask
    kept = batch if keep.all() else batch.filter(pa.array(keep))
    tally.keep_all(sizes_in[keep], text_bytes(kept.column("text")))
    return kept


def stem(shard: str) -> str:
    """Name of a shard's unit."""
    return shard.removesuffix(".parquet")


def flat(shards: Mapping[str, Sequence[str]]) -> list[str]:
    """All shards, in order."""
    return [name for names in shards.values() for name in names]


def sum_by_source(shards: Mapping[str, Sequence[str]], results: Mapping[str, Result]) -> dict[str, Any]:
    """Tallies of shards, summed for each source."""
    return {source: Tally.sum(results[stem(name)]["tally"] for name in names) for source, names in shards.items()}


def refuse_empty(counts: Mapping[str, Any], stage: str, mend: str, rejects: Path | None = None) -> None:
    """A source without a document left is an error now, not a failing training run later."""
    for source, tally in counts.items():
        if not tally["documents_out"]:
            dropped = (
                ", ".join(f"{n['documents']} {reason}" for reason, n in tally["dropped"].items()) or "none came in"
            )
            first = f"; the first: {lines(rejects)[0].strip()}" if rejects and rejects.stat().st_size else ""
            raise InputError(f"source {source}: no document is left after {stage} ({dropped}){first}; {mend}")


def lines(path: Path) -> list[str]:
    """Lines of a file, with their ends."""
    with path.open(encoding="utf-8", newline="\n") as stream:
        return stream.readlines()
