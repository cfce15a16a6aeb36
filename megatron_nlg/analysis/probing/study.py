"""The work of a study: rankers, then every set's probes on every model; a row is written as soon as it is there."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from megatron_nlg.analysis.probing import features
from megatron_nlg.analysis.probing.collection import Collection
from megatron_nlg.analysis.probing.example import ProbingSet
from megatron_nlg.analysis.probing.fit import Training
from megatron_nlg.analysis.probing.measure import measure
from megatron_nlg.analysis.probing.probes import Kind
from megatron_nlg.analysis.probing.rankers import rankers
from megatron_nlg.analysis.probing.ranking import evaluate
from megatron_nlg.analysis.probing.terms import count
from megatron_nlg.analysis.progress import bar
from megatron_nlg.generation.ledger import Ledger

Row = dict[str, Any]
DEPTH = 1000
"""Passages of a ranking, as MS MARCO's are evaluated."""


def rank(found: Collection, ledger: Ledger) -> list[Row]:
    """A row a ranker, for the queries that have a relevant passage; nothing without judgements."""
    judged = {query: grades for query, grades in found.judged.items() if any(grades.values())}
    if not judged:
        return []
    queries, done, rows = sorted(judged), ledger.rows(), []
    counts = count(found.passages)
    with bar("rankers", 3 * len(queries), sys.stderr) as advance:
        for ranker in rankers(counts):
            key = f"ranker {ranker.name}"
            if key not in done:
                results = {}
                for query, ranking in zip(
                    queries, ranker.rank([found.queries[q] for q in queries], DEPTH), strict=True
                ):
                    results[query] = (ranking.passages.tolist(), ranking.scores.tolist())
                    advance(1)
                done[key] = {"key": key, "ranker": ranker.name, **evaluate(results, judged)}
                ledger.append(done[key])
            rows.append(done[key])
    return rows


def probe(
    models: Mapping[str, Path], sets: Sequence[ProbingSet], kinds: Sequence[Kind], how: Training, ledger: Ledger
) -> list[Row]:
    """Rows of all models, given with the folders of their representations, in the order of models, sets and kinds."""
    work = list(_work(models, sets, kinds))
    done = ledger.rows()
    with bar("probes", len(work), sys.stderr) as advance:
        for model, some, kind in work:
            if not all(_complete(model, each, kind, models[model], done) for each in some):
                inputs = [features.load(each, models[model]) for each in some]
                for row in measure(inputs, replace(how, kind=kind)):
                    key = _key(model, row["task"], kind, row["layer"])
                    if key not in done:
                        done[key] = {"key": key, "model": model, **row}
                        ledger.append(done[key])
            advance(1)
    return [row for row in done.values() if "probe" in row]


def missing(
    models: Mapping[str, Path], sets: Sequence[ProbingSet], kinds: Sequence[Kind], ledger: Ledger
) -> dict[str, list[ProbingSet]]:
    """By model, the sets whose representations are still needed. Raises InputError for rows of another job."""
    done = ledger.rows()
    return {
        model: [
            each
            for each in sets
            if any(
                not _complete(model, other, kind, models[model], done)
                for kind in kinds
                for other in (sets if kind == "multi" else [each])
            )
        ]
        for model in models
    }


def order(
    models: Mapping[str, Path], sets: Sequence[ProbingSet], kinds: Sequence[Kind], ranked: Sequence[Row]
) -> list[str]:
    """Keys of all rows, as they stand in the finished file."""
    keys = [row["key"] for row in ranked]
    for model, some, kind in _work(models, sets, kinds):
        keys += [key for each in some for key in _keys(model, each, kind, models[model])]
    return keys


def _work(
    models: Mapping[str, Path], sets: Sequence[ProbingSet], kinds: Sequence[Kind]
) -> Iterator[tuple[str, list[ProbingSet], Kind]]:
    """What is trained together: one set, or with kind multi all of them."""
    for model in models:
        for kind in kinds:
            for some in [list(sets)] if kind == "multi" else [[each] for each in sets]:
                yield model, some, kind


def _keys(model: str, some: ProbingSet, kind: Kind, folder: Path) -> list[str]:
    layers = ["mix"] if kind == "mix" else range(features.about(folder)["layers"])
    return [_key(model, some.name, kind, layer) for layer in layers]


def _key(model: str, task: str, kind: str, layer: object) -> str:
    return f"{model} {task} {kind} {layer}"


def _complete(model: str, some: ProbingSet, kind: Kind, folder: Path, done: Mapping[str, Row]) -> bool:
    return all(key in done for key in _keys(model, some, kind, folder))
