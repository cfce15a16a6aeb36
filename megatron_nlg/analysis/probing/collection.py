"""Passages, queries and judgements from a folder, in the layouts of MS MARCO (TSV) and BEIR (JSON lines).

| file | MS MARCO | JSON lines |
|---|---|---|
| passages | `collection.tsv`: id, text | `collection.jsonl` or `corpus.jsonl`: `_id`, `text`, also a `title` |
| queries | `queries*.tsv`: id, text | `queries*.jsonl`: `_id`, `text` |
| judgements | `qrels*.tsv`: query, 0, passage, grade | `qrels/*.tsv` with a head, or `qrels*.jsonl` |
| triples | `triples*.tsv`: query, relevant, other passage: ids, or (when there are no passages) texts | |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from megatron_nlg.analysis.probing.lines import Row, columns, is_json, lines, objects
from megatron_nlg.config.errors import InputError

Names = dict[str, int]


@dataclass
class Collection:
    """Texts by number, and judgements by numbers."""

    passages: list[str] = field(default_factory=list)
    passage_ids: list[str] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    query_ids: list[str] = field(default_factory=list)
    judged: dict[int, dict[int, int]] = field(default_factory=dict)
    """Query to passage to grade; 0 is judged not relevant."""

    def judge(self, query: int, passage: int, grade: int) -> None:
        """Add a judgement; of two for one pair the higher counts."""
        known = self.judged.setdefault(query, {})
        known[passage] = max(grade, known.get(passage, 0))


def read_collection(folder: Path, words: int) -> Collection:
    """A folder's collection, passages cut to so many words. Raises InputError with file, line, value and mend."""
    if not folder.is_dir():
        raise InputError(f"--collection {folder}: is not a folder; `megatron-nlg analyze collection` makes one")
    passages, triples = _find(folder, "collection", "corpus"), _find(folder, "triples")
    found = Collection()
    if passages is None:
        if triples is None:
            raise InputError(f"{folder}: has no collection.tsv, collection.jsonl, corpus.jsonl or triples.tsv; add one")
        _texts_of_triples(found, triples, words)
    else:
        _texts(found.passages, found.passage_ids, passages, words)
        queries = _find(folder, "queries")
        if queries is None:
            raise InputError(f"{folder}: has no queries.tsv or queries.jsonl; add one")
        _texts(found.queries, found.query_ids, queries, None)
        if qrels := _find(folder, "qrels"):
            _judge(found, _qrels(qrels), "grade")
        if triples:
            _judge(found, columns(triples, ("query", "passage", "other")), "triple")
    if not found.passages or not found.queries:
        raise InputError(f"{folder}: has {len(found.passages)} passages and {len(found.queries)} queries; add some")
    return found


def _find(folder: Path, *names: str) -> Path | None:
    for name in names:
        for pattern in (f"{name}.tsv*", f"{name}.jsonl*", f"{name}.*.tsv*", f"{name}.*.jsonl*", f"{name}/*.tsv"):
            if paths := sorted(folder.glob(pattern)):
                return paths[0]
    return None


def _texts(texts: list[str], ids: list[str], path: Path, words: int | None) -> None:
    known: Names = {}
    for row in objects(path) if is_json(path) else columns(path, ("id", "text")):
        name = row.text("_id", "id", "pid", "qid").strip()
        text = row.text("text", "passage", "query")
        if row.has("title") and row.fields["title"]:
            text = f"{row.text('title')}. {text}"
        if name in known:
            raise InputError(f"{row.where}: id {name!r} is there twice; give every text an id of its own")
        known[name] = len(texts)
        texts.append(cut(text, words))
        ids.append(name)


def cut(text: str, words: int | None) -> str:
    """Words joined by single spaces, the first so many of them."""
    return " ".join(text.split()[:words])


def _qrels(path: Path) -> Iterator[Row]:
    """Rows with query, passage and grade: four columns as TREC writes them, or three, under a head or not."""
    if is_json(path):
        for row in objects(path):
            names = row.text("query", "qid", "query-id"), row.text("passage", "pid", "corpus-id")
            grade = str(row.fields.get("grade", row.fields.get("score", 1)))
            yield Row(row.where, {"query": names[0], "passage": names[1], "grade": grade})
        return
    for number, (where, text) in enumerate(lines(path)):
        cells = text.split()
        if not cells or (number == 0 and not cells[-1].lstrip("-").isdigit()):
            continue
        if len(cells) not in (3, 4):
            raise InputError(f"{where}: has {len(cells)} columns; query, 0, passage, grade are expected; mend the line")
        yield Row(where, {"query": cells[0], "passage": cells[-2], "grade": cells[-1]})


def _judge(found: Collection, rows: Iterator[Row], kind: str) -> None:
    queries: Names = {name: number for number, name in enumerate(found.query_ids)}
    passages: Names = {name: number for number, name in enumerate(found.passage_ids)}
    for row in rows:
        query = _known(row, "query", queries)
        if query is None:  # MS MARCO's judgements are for all queries, its query files for some
            continue
        judged = _known(row, "passage", passages)
        if judged is None:
            row.refuse("passage", "it must be the id of a passage")
        if kind == "triple":
            found.judge(query, judged, 1)
            other = _known(row, "other", passages)
            if other is None:
                row.refuse("other", "it must be the id of a passage")
            found.judge(query, other, 0)
        else:
            grade = str(row.fields["grade"])
            if not grade.lstrip("-").isdigit():
                row.refuse("grade", "a whole number is expected")
            found.judge(query, judged, max(0, int(grade)))


def _known(row: Row, name: str, names: Names) -> int | None:
    return names.get(row.text(name).strip())


def _texts_of_triples(found: Collection, path: Path, words: int) -> None:
    """Triples of texts are passages, queries and judgements at once; ids are numbers."""
    seen: tuple[Names, Names] = ({}, {})

    def number(text: str, known: Names, add: Callable[[str], None]) -> int:
        if text not in known:
            known[text] = len(known)
            add(text)
        return known[text]

    for row in columns(path, ("query", "relevant passage", "other passage")):
        query = number(cut(row.text("query"), None), seen[0], found.queries.append)
        for name, grade in (("relevant passage", 1), ("other passage", 0)):
            found.judge(query, number(cut(row.text(name), words), seen[1], found.passages.append), grade)
    found.passage_ids = [str(i) for i in range(len(found.passages))]
    found.query_ids = [str(i) for i in range(len(found.queries))]
