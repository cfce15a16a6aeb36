"""The file of answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from megatron_nlg.config.errors import InputError
from megatron_nlg.evaluation.journal import Journal, key_of


def test_answers_come_back_whatever_end_was_torn_off(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    journal = Journal(path)
    keys = [key_of("one", "t", "loglikelihood", ("a", str(i))) for i in range(3)]
    for number, key in enumerate(keys):
        journal.add(key, [[-1.5 * number, True], False], task="t")
    whole = path.read_bytes()
    for end in range(len(whole) + 1):
        path.write_bytes(whole[:end])
        found = Journal(path).answers
        count = whole[:end].count(b"\n")
        assert found == dict(list(journal.answers.items())[:count])
        assert path.read_bytes() == whole[: whole[:end].rfind(b"\n") + 1]


def test_a_key_is_of_checkpoint_task_kind_and_text() -> None:
    parts = [("one", "t", "k"), ("other", "t", "k"), ("one", "u", "k"), ("one", "t", "l")]
    keys = {key_of(*what, ("a", "b")) for what in parts} | {key_of("one", "t", "k", ("ab", ""))}
    assert len(keys) == 5 and key_of("one", "t", "k", ["a", "b"]) in keys


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text('{"key": "a", "answer": 1}\n{"prompt": "a"}\n')
    with pytest.raises(InputError, match="line 2: is no answer of an evaluation; delete the line"):
        Journal(path)
    assert path.read_text().count("\n") == 2
