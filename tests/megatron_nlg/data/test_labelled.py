from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.config.errors import ConfigError, InputError
from megatron_nlg.config.schema import Classification
from megatron_nlg.data.labelled import read_sets, read_texts, with_epochs
from tests.megatron_nlg.data.texts import write_texts
from tests.tiny import tiny


def settings(**changes: object) -> Classification:
    return Classification.model_validate({"train": "x", "labels": ["no", "yes"], "max_length": 8, **changes})


def test_a_pair_of_columns_by_a_template(tmp_path: Path) -> None:
    path = tmp_path / "qnli.tsv"
    path.write_bytes(b'index\tquestion\tsentence\tlabel\r\n0\tWho?\tShe "did\t{it}\r\n'.replace(b"{it}", b"yes"))
    found = read_texts(path, settings(text="{question}\n{sentence}"))
    assert (found.texts, found.classes) == (['Who?\nShe "did'], [1])


cell = st.text(st.characters(exclude_characters="\t\n\r", exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@given(st.lists(st.tuples(cell, st.booleans()), min_size=1, max_size=9))
def test_tsv_and_jsonl_read_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, bool]]
) -> None:
    folder = tmp_path_factory.mktemp("texts")
    names = [("no", "yes")[right] for _, right in rows]
    lines = ["sentence\tlabel", *(f"{text}\t{name}" for (text, _), name in zip(rows, names, strict=True))]
    (folder / "a.tsv").write_bytes(("\n".join(lines) + "\n").encode())
    objects = [{"sentence": text, "label": name} for (text, _), name in zip(rows, names, strict=True)]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in objects))
    for name in ("a.tsv", "a.jsonl"):
        found = read_texts(folder / name, settings())
        assert list(zip(found.texts, map(bool, found.classes), strict=True)) == rows


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", b"text\tlabel\na\tyes\n", r"a\.tsv:1: has no sentence; there are: text, label"),
        ("a.tsv", b"sentence\tlabel\na\tyes\nb\tmaybe\n", r"a\.tsv:3: label is 'maybe', .*labels are no, yes"),
        ("a.tsv", b"sentence\tlabel\n \tyes\n", r"a\.tsv:2: sentence is empty"),
        ("a.tsv", b"sentence\tlabel\na\tyes\nb\n", r"a\.tsv:3: 1 columns, and the header has 2: 'b'"),
        ("a.tsv", b"sentence\tlabel\na\tyes\n\n", r"a\.tsv:3: 1 columns"),
        ("a.tsv", b"sentence\tlabel\n\xff\tyes\n", r"a\.tsv:2: not UTF-8 at byte 0"),
        ("a.tsv", b"sentence\tlabel\n", r"a\.tsv: holds no text"),
        ("a.tsv", b"", r"a\.tsv: holds no text"),
        ("a.jsonl", b'{"sentence": "a", "label": "yes"}\n{"sentence": "b", "la', r"a\.jsonl:2: not a JSON object"),
        ("a.jsonl", b'{"sentence": "a"}\n', r"a\.jsonl:1: has no label"),
        ("a.jsonl", b'{"sentence": ["a"], "label": "yes"}\n', r"a\.jsonl:1: has no sentence"),
        ("a.jsonl", b'{"sentence": "a", "label": true}\n', r"a\.jsonl:1: has no label"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_texts(tmp_path / name, settings())
    with pytest.raises(InputError, match=r"absent\.tsv: cannot be read: No such file"):
        read_texts(tmp_path / "absent.tsv", settings())


def test_a_share_by_the_seed_without_a_validation_file(tmp_path: Path) -> None:
    base = [*write_texts(tmp_path, train=50), "data.classification.validation=null", "data.split=[0.8, 0.2]"]
    train, valid = read_sets(tiny(*base))
    again, _ = read_sets(tiny(*base))
    other, _ = read_sets(tiny(*base, "seed=7"))
    assert (len(train), len(valid)) == (40, 10)
    assert train == again and train.places != other.places
    assert set(train.places).isdisjoint(valid.places)
    with pytest.raises(InputError, match=r"data\.split: \[1\.0, 0\.0\] leaves training or validation without any"):
        read_sets(tiny(*base, "data.split=[1.0, 0.0]"))


def test_the_length_of_training_follows_from_epochs(tmp_path: Path) -> None:
    base = [*write_texts(tmp_path, train=50), "data.classification.epochs=4"]
    assert with_epochs(tiny(*base)).schedule.train_tokens == 4 * 50 * 32
    assert with_epochs(with_epochs(tiny(*base))) == with_epochs(tiny(*base))
    assert with_epochs(tiny()) == tiny()
    with pytest.raises(ConfigError, match=r"schedule\.train_tokens: 9 is not 4 epochs × 50 examples × .* = 6400"):
        with_epochs(tiny(*base, "schedule.train_tokens=9"))
    with pytest.raises(ConfigError, match=r"the warm-up \(9999\) is longer than the decay \(6400\)"):
        with_epochs(tiny(*base, "schedule.warmup_tokens=9999"))
