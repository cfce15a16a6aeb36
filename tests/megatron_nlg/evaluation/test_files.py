"""Published files: read as they are, and what is said of those that are missing, broken or mislabelled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.config.errors import InputError
from megatron_nlg.evaluation.files import SETS, json_lines, read_set
from tests.megatron_nlg.evaluation.sets import write_sets


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sets(tmp_path_factory.mktemp("sets"))


def test_every_set_is_read(data: Path) -> None:
    found = {name: read_set(name, data) for name in SETS}
    assert {name: len(rows["evaluated"]) for name, rows in found.items()} == {
        name: 5 if name in ("piqa", "winogrande", "wic") else 6 for name in SETS
    }
    assert {name for name, rows in found.items() if "examples" in rows} == {"piqa", "winogrande", "wic"}
    first = {name: rows["evaluated"][0] for name, rows in found.items()}
    assert [row["label"] for row in found["piqa"]["evaluated"]] == [0, 1, 1, 0, 1]
    assert found["winogrande"]["examples"][0]["sentence"].startswith("Ada told Ben")
    assert [row["label"] for row in found["anli"]["evaluated"][:3]] == [0, 1, 2]  # e, n, c
    assert first["hans"]["label"] == 0 and first["hans"]["hypothesis"].startswith('It said " ')  # quotes are text
    assert (first["hans"]["heuristic"], first["hans"]["subcase"]) == ("subsequence", "sn_NP/S")
    assert first["boolq"]["label"] == 1 and first["wic"]["sentence1"][first["wic"]["start1"] : 8] == "saw"
    assert len(first["race"]["problems"]) == 2 and first["race"]["problems"][1]["answer"] == "B"


def test_the_largest_training_file_gives_the_examples(tmp_path: Path) -> None:
    data = write_sets(tmp_path)
    rows = (data / "winogrande_1.1" / "train_xl.jsonl").read_text().replace("Ada", "Zoe")
    (data / "winogrande_1.1" / "train_xl.jsonl").write_text(rows)
    assert read_set("winogrande", data)["examples"][0]["option1"] == "Zoe"


def test_boolq_as_first_published(tmp_path: Path) -> None:
    row = {"question": "is it", "title": "It", "answer": True, "passage": "It is."}
    (tmp_path / "boolq").mkdir()
    (tmp_path / "boolq" / "dev.jsonl").write_text(json.dumps(row) + "\r\n")
    assert read_set("boolq", tmp_path)["evaluated"] == [{"passage": "It is.", "question": "is it", "label": 1}]


@pytest.mark.parametrize(
    ("name", "file", "old", "new", "said"),
    [
        ("lambada", "lambada/lambada_test.jsonl", '{"text"', '{"text', "lambada_test.jsonl, line 1: broken JSON"),
        ("lambada", "lambada/lambada_test.jsonl", '"text"', '"story"', "line 1: has no 'text'; its fields are 'story'"),
        ("boolq", "boolq/val.jsonl", '"label": false', '"label": "maybe"', "line 2: label: unknown label 'maybe'; the"),
        (
            "piqa",
            "piqa/valid-labels.lst",
            "1\n1",
            "1\n2",
            "valid-labels.lst, line 3: unknown label '2'; the labels are",
        ),
        ("piqa", "piqa/valid-labels.lst", "0\n1\n1", "0\n1", "valid-labels.lst: has 4 labels, and valid.jsonl 5 rows"),
        ("hellaswag", "hellaswag/hellaswag_val.jsonl", '"label": 3', '"label": 4', "line 4: label: unknown label 4"),
        ("hellaswag", "hellaswag/hellaswag_val.jsonl", '"endings": [', '"endings": ["a", ', "a list of 4 texts is"),
        ("winogrande", "winogrande_1.1/dev.jsonl", " as _ ", " as ", "line 1: sentence"),
        ("winogrande", "winogrande_1.1/dev.jsonl", '"answer": "2"', '"answer": ""', "line 2: answer: unknown label ''"),
        ("anli", "anli_v1.0/R2/test.jsonl", '"label": "n"', '"label": "x"', "line 2: label: unknown label 'x'"),
        ("wic", "wic/val.jsonl", '"start1": 5', '"start1": "b"', "line 1: start1 is 'b'; a whole number is expected"),
        ("race", "race/test/high/2.txt", '"answers": ["A"', '"answers": ["E"', "2.txt, line 1: 1.: unknown label 'E'"),
        (
            "race",
            "race/test/high/2.txt",
            '"answers": ["A", ',
            '"answers": [',
            "as many questions as options and answers",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, file: str, old: str, new: str, said: str) -> None:
    path = write_sets(tmp_path) / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError) as error:
        read_set(name, tmp_path)
    assert said in str(error.value) and str(tmp_path) in str(error.value)


def test_hans_names_lines_of_a_packed_file(tmp_path: Path) -> None:
    head = "gold_label\tsentence1\tsentence2\theuristic\tsubcase\ttemplate\n"
    (tmp_path / "hans").mkdir()
    path = tmp_path / "hans" / "heuristics_evaluation_set.txt"
    for row, said in (
        ("neutral\ta\tb\tx\ty\tz\n", "line 2: gold_label: unknown label 'neutral'; the labels are 'entailment', 'non-"),
        ("entailment\ta\tb\n", "line 2: has 3 columns, and the head 6"),
        ("", "has no rows"),
    ):
        path.write_text(head + row)
        with pytest.raises(InputError) as error:
            read_set("hans", tmp_path)
        assert said in str(error.value)
    path.unlink()
    packed = path.with_suffix(".txt.xz")
    packed.write_bytes(b"\xfd7zXZ\x00 not really")
    with pytest.raises(InputError, match="its compression is damaged"):
        read_set("hans", tmp_path)
    packed.unlink()
    with pytest.raises(
        InputError, match=r"has no file of hans; put the published one at .*/hans/heuristics_evaluation"
    ):
        read_set("hans", tmp_path)
    (tmp_path / "race" / "test" / "high").mkdir(parents=True)
    with pytest.raises(InputError, match=r"holds no \.txt passages"):
        read_set("race", tmp_path)


@given(st.lists(st.dictionaries(st.text(), st.text() | st.booleans() | st.integers())), st.binary(max_size=20))
def test_json_lines_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]], rest: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "rows.jsonl"
    whole = "".join(json.dumps(row, ensure_ascii=False).replace("\x85", " ") + "\n" for row in rows)
    path.write_bytes(whole.encode("utf-8", "replace"))
    assert len(list(json_lines(path))) == len(rows)
    path.write_bytes(whole.encode("utf-8", "replace") + rest)
    try:
        assert len(list(json_lines(path))) >= len(rows)
    except InputError as error:
        assert "rows.jsonl" in str(error)


def test_the_sets_at_hand(real_data: Path) -> None:
    """Real ones: rows, and the share of the commonest label."""
    rows = {
        name: read_set(name, real_data / "eval")["evaluated"] for name in ("lambada", "piqa", "boolq", "winogrande")
    }
    assert {name: len(found) for name, found in rows.items()} == {
        "lambada": 5153, "piqa": 1838, "boolq": 3270, "winogrande": 1267
    }  # fmt: skip
    assert 0.6 < sum(row["label"] for row in rows["boolq"]) / 3270 < 0.65
    assert len(read_set("hans", real_data / "eval")["evaluated"]) == 30_000
    assert len(read_set("winogrande", real_data / "eval")["examples"]) == 640
