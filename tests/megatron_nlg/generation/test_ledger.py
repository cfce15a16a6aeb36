"""Rows that are torn, of another job, or written to a full disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.config.errors import InputError, MegatronNlgError
from megatron_nlg.generation.ledger import Ledger

JOB = {"study": "x", "step": 2, "settings": {"seed": 0, "shots": [0, 1]}}
KEYS = ["a", "b/é", "c", "d"]


def finish(path: Path) -> tuple[bytes, int]:
    """Go on as a study does; the file, and how many rows were made."""
    ledger = Ledger(path, JOB)
    done = ledger.keys()
    ledger.open()
    for key in KEYS:
        if key not in done:
            ledger.append({"key": key, "logprobs": [-0.5]})
    ledger.publish(KEYS)
    assert not ledger.partial.exists()
    return path.read_bytes(), len(KEYS) - len(done)


@given(st.permutations(KEYS), st.integers(0, 4), st.integers(0, 250))
def test_from_any_torn_file_the_same_bytes_come(
    tmp_path_factory: pytest.TempPathFactory, order: list[str], rows: int, cut: int
) -> None:
    want, made = finish(tmp_path_factory.mktemp("undisturbed") / "rows.jsonl")
    assert made == 4
    path = tmp_path_factory.mktemp("torn") / "rows.jsonl"
    ledger = Ledger(path, JOB)
    ledger.open()
    for key in order[:rows]:
        ledger.append({"key": key, "logprobs": [-0.5]})
    content = ledger.partial.read_bytes()
    ledger.partial.write_bytes(content[: max(0, len(content) - cut)])
    whole = max(0, ledger.partial.read_bytes().count(b"\n") - 1)
    assert finish(path) == (want, 4 - whole)
    assert finish(path) == (want, 0)


def test_rows_of_another_job_are_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    before, _ = finish(path)
    other = json.loads(json.dumps(JOB)) | {"step": 3}
    other["settings"]["seed"] = 1
    with pytest.raises(InputError, match=r"another job: settings.seed was 0 and is 1; step was 2 and is 3; set these"):
        Ledger(path, other).keys()
    path.write_bytes(b"my notes\n")
    with pytest.raises(InputError, match=r"rows.jsonl, line 1: is not a row of this study"):
        Ledger(path, JOB).keys()
    path.write_bytes(before + b'{"no": "key"}\n')
    with pytest.raises(InputError, match="line 6: is not a row"):
        Ledger(path, JOB).keys()


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "rows.jsonl", JOB)
    ledger.partial.symlink_to("/dev/full")
    with pytest.raises(MegatronNlgError, match="No space left on device"):
        ledger.append({"key": "a"})
