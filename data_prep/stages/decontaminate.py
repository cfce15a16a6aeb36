"""Evaluation examples cut out of documents: their n-grams counted in all shards, then each shard cut."""

from __future__ import annotations

import json
from collections import Counter
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_prep.batches import runs
from data_prep.decontaminate.cut import pieces
from data_prep.decontaminate.ngrams import Matches, NGrams, read_ngrams, write_ngrams
from data_prep.decontaminate.tasks import read_task, task_files
from data_prep.execution.units import Result
from data_prep.files import file_sha256, replacing, write_text
from data_prep.jobs import Built, Done
from data_prep.recipe import Decontaminate as Rules
from data_prep.recipe import Recipe
from data_prep.shards import read_table, text_bytes, write_table
from data_prep.stages.base import DocumentStage, Progress, flat, stem, sum_by_source
from data_prep.tally import Tally

CUT = "contaminated.jsonl"
NGRAMS = "ngrams.parquet"
_RUN_BYTES = 4 << 20
OUTCOMES = ("split", "trimmed", "removed", "removed_in_pieces")
"""What becomes of a document with a match: several pieces, one, none that is long enough, or too many."""


class Decontaminate(DocumentStage):
    """In memory: the tasks' n-grams, and one count for each."""

    name = "decontaminate"
    mend = "it is made of evaluation examples; leave it out"

    def wanted(self, recipe: Recipe) -> bool:
        """With tasks."""
        return bool(recipe.decontaminate.tasks)

    def settings(self, progress: Progress) -> Any:
        """Its section, and what is in the tasks' files."""
        rules, root = progress.recipe.decontaminate, Path(progress.recipe.root)
        return [rules.model_dump(mode="json"), [[file_sha256(p) for p in task_files(t, root)] for t in rules.tasks]]

    def build(self, progress: Progress, before: Done, work: Path) -> Built:
        """Write each shard with its documents cut, and `contaminated.jsonl`: what was found in which."""
        rules, root, job = progress.recipe.decontaminate, Path(progress.recipe.root), progress.job
        texts = {t.name: (read_task(t, root), None if t.ngram == "auto" else t.ngram) for t in rules.tasks}
        about = write_ngrams(work / NGRAMS, texts)
        shards: dict[str, list[str]] = before.summary["shards"]
        paths = {stem(name): before.folder / name for name in flat(shards)}
        finds = {name: (path, work / NGRAMS) for name, path in paths.items()}
        found = job.map_units("decontaminate: find", work / "found", find_unit, finds)
        ngrams = _table(work / NGRAMS)
        totals = np.zeros(len(ngrams), np.int64)
        for result in found.values():
            totals[result["ngrams"]] += np.array(result["counts"], np.int64)
        spared = totals >= rules.frequent
        cuts = {
            name: (path, work / "found" / f"{name}.npz", work / NGRAMS, spared, rules) for name, path in paths.items()
        }
        results = job.map_units("decontaminate: cut", work, cut_unit, cuts)
        write_text(work / CUT, "".join(line for result in results.values() for line in result.pop("lines")))
        summary = {"shards": shards, "sources": sum_by_source(shards, results)}
        return Built(summary | {"found": _summary(about, ngrams, totals, spared, results)}, [*flat(shards), CUT])


def find_unit(work: Path, name: str, task: tuple[Path, Path]) -> Result:
    """Matches in a shard, as `NAME.npz`; returns which n-grams occur and how often."""
    path, table = task
    texts = read_table(path, ["text"])["text"]
    parts = [Matches(*(np.zeros(0, np.int64) for _ in Matches._fields))]
    for first, end in runs(text_bytes(texts), _RUN_BYTES):
        here = _table(table).find(texts.slice(first, end - first).combine_chunks())
        parts.append(here._replace(documents=here.documents + first))
    whole = Matches(*map(np.concatenate, zip(*parts, strict=True)))
    with replacing(work / f"{name}.npz") as temporary, temporary.open("wb") as stream:
        np.savez(stream, **whole._asdict())
    grams, counts = np.unique(whole.grams, return_counts=True)
    return {"ngrams": grams.tolist(), "counts": counts.tolist()}


def cut_unit(work: Path, name: str, task: tuple[Path, Path, Path, NDArray[np.bool_], Rules]) -> Result:
    """Write a shard with its documents cut; pieces are documents of their own, `ID#0`, `ID#1`, … ."""
    path, where, table_path, spared, rules = task
    with np.load(where) as arrays:
        found = Matches(*(arrays[key] for key in Matches._fields))
    found = Matches(*(column[~spared[found.grams]] for column in found))
    table, ngrams, tally = read_table(path), _table(table_path), Tally()
    documents, starts = np.unique(found.documents, return_index=True)
    outcomes: Counter[str] = Counter()
    tasks: Counter[str] = Counter()
    lines, parts, done = [], [], 0
    sizes = text_bytes(table["text"])
    for document, (first, end) in zip(documents.tolist(), pairwise([*starts.tolist(), len(found.grams)]), strict=True):
        row, rows = table.slice(document, 1), found.grams[first:end].tolist()
        left, outcome = _cut(row["text"][0].as_py(), found.starts[first:end], found.ends[first:end], rules)
        size, by_task = int(sizes[document]), sorted({t for r in rows for t in ngrams.tasks[r]})
        if left:
            tally.cut(size, [len(text.encode()) for text in left])
        else:
            tally.drop("contaminated" if outcome == "removed" else "contaminated_in_pieces", size)
        parts += [table.slice(done, document - done), _as_documents(row, left)]
        done = document + 1
        outcomes |= Counter({outcome: outcomes[outcome] + 1, "pieces": outcomes["pieces"] + len(left)})
        tasks.update(by_task)
        about = {"id": row["id"][0].as_py(), "outcome": outcome, "pieces": len(left), "tasks": by_task}
        lines.append(json.dumps(about | {"ngrams": [ngrams.texts[r] for r in dict.fromkeys(rows)]}) + "\n")
    whole = np.setdiff1d(np.arange(len(table)), documents)
    tally.keep_all(sizes[whole], sizes[whole])
    parts.append(table.slice(done))
    write_table(work / path.name, pa.concat_tables(parts).combine_chunks())
    return {"tally": tally.as_json(), "outcomes": dict(outcomes), "tasks": dict(tasks), "lines": lines}


def _cut(text: str, starts: NDArray[np.int64], ends: NDArray[np.int64], rules: Rules) -> tuple[list[str], str]:
    """What is left of a text with matches at some bytes, and which of OUTCOMES that is."""
    data, matches, byte, character = text.encode(), [], 0, 0
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        character += len(data[byte:start].decode())
        byte = start
        matches.append((character, character + len(data[start:end].decode())))
    left = pieces(text, matches, rules)
    if len(left) > rules.max_pieces:
        return [], "removed_in_pieces"
    return left, "removed" if not left else "trimmed" if len(left) == 1 else "split"


def _as_documents(row: pa.Table, texts: list[str]) -> pa.Table:
    """One document [1] as its pieces [pieces]: everything but id and text is the same."""
    out = row.take(pa.array(np.zeros(len(texts), np.int64)))
    names = [f"{row['id'][0].as_py()}#{i}" for i in range(len(texts))]
    for key, values in (("id", names), ("text", texts)):
        at = row.schema.get_field_index(key)
        out = out.set_column(at, row.schema.field(at), pa.array(values, row.schema.field(at).type))
    return out


def _summary(
    about: dict[str, Any],
    ngrams: NGrams,
    totals: NDArray[np.int64],
    spared: NDArray[np.bool_],
    results: dict[str, Result],
) -> dict[str, Any]:
    """The paper's four counts, and of each task: n-grams, those found, those spared, documents cut for it."""
    outcomes = sum((Counter(result["outcomes"]) for result in results.values()), Counter[str]())
    documents = sum((Counter(result["tasks"]) for result in results.values()), Counter[str]())
    tasks = {}
    for name, task in about.items():
        mine = np.array([name in of for of in ngrams.tasks], bool)
        counts = {
            "ngrams_found": int((mine & (totals > 0)).sum()),
            "ngrams_spared": int((mine & spared).sum()),
            "occurrences": int(totals[mine].sum()),
            "documents": documents[name],
        }
        tasks[name] = task | counts
    return {outcome: outcomes[outcome] for outcome in OUTCOMES} | {"pieces": outcomes["pieces"], "tasks": tasks}


@lru_cache(maxsize=1)
def _table(path: Path) -> NGrams:
    return read_ngrams(path)
