import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prep.execution.local import Local
from data_prep.jobs import Done, Job
from data_prep.recipe import Recipe, Source, TokenizerRecipe
from data_prep.recipe.decontaminate import Decontaminate as Rules
from data_prep.recipe.decontaminate import Task
from data_prep.shards import Document, read_documents, write_shard
from data_prep.stages.base import Inputs, Progress
from data_prep.stages.decontaminate import CUT, Decontaminate
from tests.data_prep.decontaminate.oracle import clean, occurrences, task_ngrams

EXAMPLES = [
    "Which of the seven old ships came home under the winter moon in spite of all the storms?",
    "Nobody in the small town knew why the clock had stopped at nine on that day in May.",
    "a common phrase that is found in almost every page of the web",
]


def run(folder: Path, texts: list[str], rules: Rules, shard_size: int = 3) -> tuple[Any, list[Document]]:
    """The stage's summary and its documents."""
    names = []
    folder.mkdir()
    for start in range(0, len(texts), shard_size):
        names.append(f"s-{start:03}.parquet")
        documents = [
            Document(f"d{start + i}", text, "s", "http://u", '{"n": 1}')
            for i, text in enumerate(texts[start : start + shard_size])
        ]
        write_shard(folder / names[-1], documents)
    before = Done("dedup", "key", folder, {"shards": {"s": names}}, was_done=True)
    source = (Source(name="s", paths=("x",)),)
    recipe = Recipe(
        out="o", root=str(folder), sources=source, tokenizer=TokenizerRecipe(kind="char"), decontaminate=rules
    )
    progress = Progress(recipe, Inputs({}, None), Job(folder / "out", Local(1)))
    (folder / "work").mkdir()
    summary = Decontaminate().build(progress, before, folder / "work").summary
    return summary, [d for name in names for d in read_documents(folder / "work" / name)]


def task(folder: Path, examples: list[str], name: str = "t", ngram: Any = 8) -> Task:
    path = folder.parent / f"{folder.name}-{name}.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in examples))
    return Task(name=name, paths=(str(path.resolve()),), ngram=ngram)


def filler(seed: int, sentences: int) -> str:
    draw = np.random.default_rng(seed)
    return " ".join(" ".join(f"w{n}" for n in draw.integers(0, 500, 12)).capitalize() + "." for _ in range(sentences))


def test_the_four_outcomes_and_what_is_spared(tmp_path: Path) -> None:
    first, second, common = EXAMPLES
    texts = [
        filler(0, 30) + f" {first.upper()} " + filler(1, 30),  # split
        f"Short. {second} " + filler(2, 30),  # trimmed
        f"Very short. {first} And this.",  # removed
        " ".join(f"{filler(10 + i, 20)} {second}" for i in range(12)),  # removed in pieces
        filler(3, 10),
        *(f"{filler(20 + i, 8)} {common}. {filler(40 + i, 8)}" for i in range(10)),  # spared
    ]
    folder = tmp_path / "a"
    rules = Rules(tasks=(task(folder, [first, common], "one"), task(folder, [second], "two")), frequent=13)
    # `second` occurs 13 times: it is frequent by that limit
    summary, _ = run(folder, texts, rules)
    assert summary["found"]["removed_in_pieces"] == summary["found"]["tasks"]["two"]["documents"] == 0
    folder = tmp_path / "b"
    rules = Rules(tasks=(task(folder, [first], "one"), task(folder, [common], "common"), task(folder, [second], "two")))
    texts[3] = " ".join(f"{filler(10 + i, 20)} {second if i < 9 else first}" for i in range(12))
    texts[1] = f"Short. {first} " + filler(2, 30)
    summary, documents = run(folder, texts, rules)
    found = summary["found"]
    assert {key: found[key] for key in found if key != "tasks"} == {
        "split": 1,
        "trimmed": 1,
        "removed": 1,
        "removed_in_pieces": 1,
        "pieces": 3,
    }
    assert found["tasks"]["common"]["ngrams_spared"] == found["tasks"]["common"]["ngrams"] == 6
    assert found["tasks"]["common"]["documents"] == 0
    assert (found["tasks"]["two"]["documents"], found["tasks"]["one"]["documents"]) == (1, 4)
    assert [d.id for d in documents] == ["d0#0", "d0#1", "d1#0", "d4", *(f"d{i}" for i in range(5, 15))]
    assert all((d.source, d.url, d.attributes) == ("s", "http://u", '{"n": 1}') for d in documents)
    assert documents[3].text == texts[4]
    assert first.upper() not in documents[0].text + documents[1].text
    tally = summary["sources"]["s"]
    assert (tally["documents_in"], tally["documents_out"]) == (15, 14)
    assert tally["bytes_out"] == sum(len(d.text.encode()) for d in documents)
    assert {reason: n["documents"] for reason, n in tally["dropped"].items()} == {
        "contaminated": 1,
        "contaminated_in_pieces": 1,
    }
    lines = [json.loads(line) for line in (folder / "work" / CUT).read_text().splitlines()]
    assert [(line["id"], line["outcome"], line["pieces"]) for line in lines] == [
        ("d0", "split", 2),
        ("d1", "trimmed", 1),
        ("d2", "removed", 0),
        ("d3", "removed_in_pieces", 0),
    ]


words = st.sampled_from(["a", "b", "c", "d.", "e!", "é", "F?"])
text = st.lists(words, max_size=60).map(" ".join)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), ngram=st.integers(8, 10), frequent=st.integers(1, 6), characters=st.integers(0, 12))
def test_as_the_paper_has_it(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, ngram: int, frequent: int, characters: int
) -> None:
    texts = data.draw(st.lists(text, min_size=1, max_size=5))
    # Parts of the corpus, as else there would be few matches; and one text that is in none.
    source = data.draw(st.sampled_from(texts)).split(" ")
    start = data.draw(st.integers(0, len(source)))
    examples = ["e f g e f g e f g e f g e f g", " ".join(source[start : start + data.draw(st.integers(0, 15))])]
    folder = tmp_path_factory.mktemp("any") / "f"
    rules = Rules(
        tasks=(task(folder, examples, ngram=ngram),),
        characters=characters,
        min_characters=data.draw(st.integers(0, 12)),
        max_pieces=data.draw(st.integers(1, 3)),
        frequent=frequent,
    )
    summary, documents = run(folder, texts, rules, data.draw(st.integers(1, 3)))
    grams = task_ngrams(examples, ngram)
    counts = occurrences(texts, grams)
    assert summary["found"]["tasks"]["t"]["occurrences"] == sum(counts.values())
    cut = {gram for gram in grams if counts[gram] < frequent}
    expected: list[tuple[str, str]] = []
    for i, whole in enumerate(texts):
        left = clean(whole, cut, characters, rules.min_characters, rules.max_pieces)
        expected += [(f"d{i}", whole)] if left is None else [(f"d{i}#{k}", piece) for k, piece in enumerate(left)]
    assert [(d.id, d.text) for d in documents] == expected
