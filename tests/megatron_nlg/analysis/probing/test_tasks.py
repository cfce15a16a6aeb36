"""Probing sets of every task, from collections, files and functions, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from megatron_nlg.analysis.probing.build import write
from megatron_nlg.analysis.probing.collection import Collection
from megatron_nlg.analysis.probing.tasks import Sources, choose
from megatron_nlg.analysis.probing.terms import terms
from megatron_nlg.config.errors import InputError


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    found = Collection()
    for number in range(80):
        found.passages.append(" ".join(f"w{i}" for i in draw.geometric(0.1, size=30)))
        found.queries.append(" ".join(f"w{i}" for i in draw.geometric(0.1, size=4)))
        found.judge(number, number, 1)
    write(found, tmp_path / "collection")
    return tmp_path / "collection"


def spans(example: Any) -> list[str]:
    return [example.text[begin:end] for begin, end in example.marks]


def test_sets_of_a_collection_say_what_is_true(collection: Path) -> None:
    given = Sources(collection, limit=200)
    assert choose("all", given) == ["bm25", "tf", "relevance"]
    scores = given.make("bm25")
    ranker = given.ranker
    for example in scores.examples[:20]:
        passage, query = spans(example)
        low, high = map(float, scores.classes[example.label].split(" to "))
        score = ranker.scores([query])[0, given.read.passages.index(passage)]
        assert low * 0.999 <= score <= high * 1.001 and example.type == query
    frequency = given.make("tf")
    for example in frequency.examples:
        passage, term = spans(example)
        times = terms(passage).count(term)
        assert frequency.classes[example.label] == (str(times) if times < 4 else "4 or more") and example.type == term
    assert len(frequency.classes) == 5 and np.bincount(frequency.labels).min() > 10
    judged = given.make("relevance")
    for example in judged.examples:
        passage, query = map(([*given.read.passages, *given.read.queries]).index, spans(example))
        assert (query - 80 == passage) == (judged.classes[example.label] == "relevant")
    assert np.bincount(judged.labels).tolist() == [80, 80]
    assert given.make("bm25").identity == Sources(collection, limit=200).make("bm25").identity


def tagger(texts: list[str]) -> list[list[tuple[int, int, str]]]:
    return [[(0, 2, "FIRST"), (len(text) - 2, len(text), "LAST")] for text in texts]


def broken_tagger(texts: list[str]) -> list[list[tuple[int, int, str]]]:
    return [[(0, 10**6, "FIRST")] for _ in texts]


def embedder(texts: list[str]) -> Any:
    return np.array([[len(text), text.count("1") + 1] for text in texts])


NOT_CALLABLE = 3


def test_functions_are_pluggable(collection: Path) -> None:
    given = Sources(collection, tagger=f"{__name__}:tagger", embedder=f"{__name__}:embedder", limit=100)
    assert choose("all", given) == ["bm25", "tf", "relevance", "entities", "similarity"]
    assert given.make("entities").classes == ("FIRST", "LAST") and given.make("similarity").labels.max() == 4
    for name, said in (
        ("broken_tagger", "gives the span 0 to 1000000"),
        ("nothing", "can't be imported"),
        ("NOT_CALLABLE", "is no function"),
        ("embedder", "is expected|gives"),
    ):
        with pytest.raises(InputError, match=f"--tagger.*({said})"):
            Sources(collection, tagger=f"{__name__}:{name}").make("entities")
    with pytest.raises(InputError, match="--embedder: gives no matrix"):
        Sources(collection, embedder=f"{__name__}:tagger").make("similarity")


CONLL = "-DOCSTART- -X- O O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\nNew NNP I-NP B-LOC\nYork NNP I-NP I-LOC\n\n"
IOB1 = "Ann NNP I-PER\nBob NNP B-PER\nand CC O\nNATO NNP I-ORG\n\n"


def test_entities_of_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text("".join(CONLL.replace("EU", f"E{i}") + IOB1.replace("Ann", f"Ann{i}") for i in range(20)))
    found = Sources(entities=path).make("entities")
    kinds: dict[str, set[str]] = {}
    for example in found.examples:
        kinds.setdefault(found.classes[example.label], set()).update(spans(example))
    assert kinds["LOC"] == {"New York"} and {"Bob", "Ann3"} <= kinds["PER"] and {"NATO", "E7"} <= kinds["ORG"]
    path.write_text("EU B-ORG\nrejects\n")
    with pytest.raises(InputError, match="line 2: has 1 column"):
        Sources(entities=path).make("entities")
    path.write_text("EU X-ORG\n")
    with pytest.raises(InputError, match="line 1: tag 'X-ORG'"):
        Sources(entities=path).make("entities")


def test_edge_probing_files(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows: list[dict[str, Any]] = []
    for i in range(30):
        near, far = ({"span1": [0, 1], "span2": [4, 5], "label": "1"}, {"span1": [0, 1], "span2": [2, 4], "label": "0"})
        rows.append({"text": f"Ann{i} said  that Bob {i} left", "targets": [near, far]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = Sources(coreference=path).make("coreference")
    assert found.classes == ("not the same", "the same") and len(found.examples) == 60
    assert {spans(e)[1] for e in found.examples if e.label == 0} == {"that Bob"}
    assert len(Sources(entities=path).make("entities").examples) == 60
    for broken in ([[0, 2]], [[0, 2], [3, 99]], [[0, 2], [3, 3]]):
        path.write_text(json.dumps({"text": "a text", "spans": broken, "label": 1}))
        with pytest.raises(InputError, match="line 1: span"):
            Sources(coreference=path).make("coreference")


GAP = "ID\tText\tPronoun\tPronoun-offset\tA\tA-offset\tA-coref\tB\tB-offset\tB-coref\tURL\n"


def test_gap(tmp_path: Path) -> None:
    path = tmp_path / "gap.tsv"
    row = "t-{}\tAnn{:03} met Eve and she left.\tshe\t19\tAnn{:03}\t0\tTRUE\tEve\t11\tFALSE\tx\n"
    path.write_text(GAP + "".join(row.format(i, i, i) for i in range(30)))
    found = Sources(coreference=path).make("coreference")
    assert all((spans(e)[1] == "Eve") == (e.label == 0) and spans(e)[0] == "she" for e in found.examples)
    path.write_text(GAP + row.format(0, 0, 0).replace("\t19\t", "\t18\t"))
    with pytest.raises(InputError, match="line 2: Pronoun-offset is '18'; 'she' is not in the text there"):
        Sources(coreference=path).make("coreference")


def test_similarity_files(tmp_path: Path) -> None:
    glue, own = tmp_path / "glue.tsv", tmp_path / "sts.csv"
    scores = [i % 6 * 0.9 for i in range(60)]
    glue.write_text(
        "index\tsentence1\tsentence2\tscore\n" + "".join(f"{i}\ta {i}\tb\t{s}\n" for i, s in enumerate(scores))
    )
    own.write_text("".join(f"news\tf\t2012\t{i}\t{s}\ta {i}\tb\tsource\n" for i, s in enumerate(scores)))
    first, second = (Sources(similarity=path).make("similarity") for path in (glue, own))
    assert first.classes == ("0 to 1", "1 to 2", "2 to 3", "3 to 4", "4 to 5")
    assert [e.label for e in first.examples] == [e.label for e in second.examples]
    glue.write_text("sentence1\tsentence2\tscore\na\tb\t7\n")
    with pytest.raises(InputError, match="line 2: score is '7'; 0 to 5 is expected"):
        Sources(similarity=glue).make("similarity")


def test_facts(tmp_path: Path) -> None:
    path = tmp_path / "fever.jsonl"

    def written(evidence: Any) -> Any:
        labels = ("SUPPORTS", "REFUTES", "NOT ENOUGH INFO")
        rows = [{"id": i, "claim": f"c {i}", "label": labels[i % 3], "evidence": evidence} for i in range(60)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return Sources(facts=path, passage_words=2).make("facts").examples[0]

    assert len(spans(written([[[1, 2, "Page", 0]]]))) == 1
    assert spans(written(["one two", "three"]))[0] == "one two"
    with path.open("a") as file:
        file.write('{"claim": "c", "label": "SUPPORTS", "evidence": []}\n')
    with pytest.raises(InputError, match="line 61: has no text as evidence"):
        Sources(facts=path).make("facts")


def test_what_is_missing_is_said(collection: Path) -> None:
    for task, option in (
        ("bm25", "--collection"),
        ("entities", "--entities"),
        ("similarity", "--embedder"),
        ("coreference", "--coreference"),
        ("facts", "--facts"),
    ):
        with pytest.raises(InputError, match=option):
            Sources().make(task)
    with pytest.raises(InputError, match="--task all: nothing was given"):
        choose("all", Sources())
    with pytest.raises(InputError, match="--task x: is unknown"):
        choose("bm25,x", Sources(collection))
    (collection / "qrels.tsv").unlink()
    with pytest.raises(InputError, match="holds no relevant passage"):
        Sources(collection).make("relevance")
