from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.decontaminate.ngrams import NGrams, auto_size, read_ngrams, write_ngrams
from tests.data_prep.decontaminate.oracle import task_ngrams, word_spans

ALPHABET = ["a", "b", "Ça", "été", "İx", "don't", "x_1", "ſo"]
text = st.lists(st.sampled_from(ALPHABET), max_size=30).map(" ".join)


@settings(deadline=None, max_examples=60)
@given(task=st.lists(text, min_size=1, max_size=4), corpus=st.lists(text, max_size=4), size=st.integers(8, 13))
def test_every_occurrence_is_found_where_it_is(
    tmp_path_factory: pytest.TempPathFactory, task: list[str], corpus: list[str], size: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "ngrams.parquet"
    corpus = [*corpus, *(f"before, {text.upper()} after" for text in task)]
    about = write_ngrams(path, {"t": (task, size)})
    table = read_ngrams(path)
    wanted = task_ngrams(task, size)
    assert about["t"]["ngrams"] == len(table) == len(wanted)
    assert {tuple(words.split(" ")) for words in table.texts} == wanted
    found = table.find(pa.array(["skipped", *corpus], pa.large_string()).slice(1))
    expected = set()
    for document, words in enumerate(map(word_spans, corpus)):
        for gram in wanted:
            for i in range(len(words) - len(gram) + 1):
                if tuple(word for word, _, _ in words[i : i + len(gram)]) == gram:
                    data = corpus[document]
                    first, last = (len(data[:at].encode()) for at in (words[i][1], words[i + len(gram) - 1][2]))
                    expected.add((document, first, last, " ".join(gram)))
    got = [(*row, table.texts[gram]) for *row, gram in np.stack(found, axis=1).tolist()]
    assert set(got) == expected
    assert len(got) == len(expected)
    assert [row[:2] for row in got] == sorted(row[:2] for row in got)


def test_a_hash_alone_is_no_match(tmp_path: Path) -> None:
    write_ngrams(tmp_path / "n.parquet", {"t": (["one two three four five six seven eight"], 8)})
    table = read_ngrams(tmp_path / "n.parquet")
    texts = pa.array(["one two three four five six seven eight"], pa.large_string())
    assert len(table.find(texts).grams) == 1
    table.texts[0] = "one two three four five six seven nine"  # as if another text had the same hash
    assert len(table.find(texts).grams) == 0


def test_n_by_task() -> None:
    assert auto_size([3] * 4 + [100] * 96) == 13
    assert auto_size([3] * 10 + [100] * 90) == 8
    assert auto_size([11] * 100) == 11
    assert auto_size([]) == 13


def test_an_ngram_of_two_tasks(tmp_path: Path) -> None:
    words = "one two three four five six seven eight nine"
    about = write_ngrams(tmp_path / "n.parquet", {"a": ([words], 8), "b": ([words, "short"], None)})
    assert about["a"] == {"texts": 1, "texts_too_short": 0, "n": 8, "ngrams": 2}
    assert about["b"] == {"texts": 2, "texts_too_short": 1, "n": 8, "ngrams": 2}
    assert NGrams(read_table_of(tmp_path)).tasks == [["a", "b"], ["a", "b"]]


def read_table_of(folder: Path) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.read_table(folder / "n.parquet")
