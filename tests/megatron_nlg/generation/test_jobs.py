"""Files of prompts: what is refused, and jobs that are killed, torn or run into a full disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.config.errors import InputError, MegatronNlgError
from megatron_nlg.generation.jobs import Job, read_prompts
from megatron_nlg.generation.rows import append_row
from megatron_nlg.generation.sampling import Sampling
from megatron_nlg.generation.sequence import Result, TokenLogprob

PROMPTS = ["one", "zwei é", "", "vier\n4"]


def result(index: int) -> Result:
    return Result(index, [index, 7], f" text\n{index}\u2028", "length", [TokenLogprob(-0.5, {3: -0.25})] * 2)


def job(folder: Path, sampling: Sampling | None = None) -> Job:
    return Job(PROMPTS, sampling or Sampling(stop=("x",), seed=2**63 - 2), folder / "out.jsonl", 12)


@given(st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8")), min_size=1, max_size=6))
def test_prompts_are_lines(tmp_path_factory: pytest.TempPathFactory, prompts: list[str]) -> None:
    folder = tmp_path_factory.mktemp("prompts")
    (folder / "p.txt").write_bytes("".join(f"{prompt}\r\n" for prompt in prompts).encode())
    (folder / "p.jsonl").write_text("\n".join(json.dumps({"prompt": f"{p}\n", "id": 1}) for p in prompts))
    assert read_prompts(folder / "p.txt") == prompts
    assert read_prompts(folder / "p.jsonl") == [f"{prompt}\n" for prompt in prompts]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.csv", b"x", "is neither .txt"),
        ("p.txt", b"", "holds no prompt"),
        ("p.txt", b"ok\n\xff", "is not UTF-8 at byte 3"),
        ("p.jsonl", b'{"prompt": "a"}\n{"prompt"', "p.jsonl, line 2: not valid JSON"),
        ("p.jsonl", b'{"prompt": "a"}\n\n', "p.jsonl, line 2: not valid JSON"),
        ("p.jsonl", b'{"text": "a"}', "line 1: an object with a text named `prompt`"),
        ("p.jsonl", b'{"prompt": 1}', "line 1: an object with a text named `prompt`"),
        ("p.jsonl", b"[]", "line 1: an object"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_prompts(tmp_path / name)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.txt: No such file"):
        read_prompts(tmp_path / "none.txt")


def finish(work: Job) -> bytes:
    """Go on as the command does."""
    done = work.finished()
    work.drop_torn_end()
    for index in range(len(PROMPTS)):
        if index not in done:
            work.append(work.row(result(index)))
    work.publish()
    assert not work.partial.exists()
    return work.out.read_bytes()


@given(st.permutations(range(4)), st.integers(0, 4), st.integers(0, 300))
def test_from_any_torn_file_the_same_bytes_come(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], rows: int, kept: int
) -> None:
    want = finish(job(tmp_path_factory.mktemp("undisturbed")))
    work = job(tmp_path_factory.mktemp("torn"))
    for index in order[:rows]:
        work.append(work.row(result(index)))
    if work.partial.exists():
        content = work.partial.read_bytes()
        work.partial.write_bytes(content[: len(content) - kept])
    assert finish(work) == want
    assert finish(work) == want  # once more changes nothing
    assert [json.loads(line)["settings"]["seed"] for line in want.decode().split("\n")[:-1]] == [
        2**63 - 2,
        2**63 - 1,
        0,
        1,
    ]


def test_rows_of_another_job_are_left_alone(tmp_path: Path) -> None:
    before = finish(job(tmp_path))
    for other, what in (
        (job(tmp_path, Sampling(stop=("x",), seed=3)), "another settings"),
        (Job(PROMPTS[:3], job(tmp_path).sampling, tmp_path / "out.jsonl", 12), "an index that the file does not have"),
        (Job(["eins", *PROMPTS[1:]], job(tmp_path).sampling, tmp_path / "out.jsonl", 12), "another prompt"),
        (Job(PROMPTS, job(tmp_path).sampling, tmp_path / "out.jsonl", 13), "another step"),
    ):
        with pytest.raises(InputError, match=what):
            other.finished()
    (tmp_path / "out.jsonl").write_bytes(b"my notes\n")
    with pytest.raises(InputError, match="is not JSONL of this command"):
        job(tmp_path).finished()
    assert before


def test_a_full_disk_is_said() -> None:
    with pytest.raises(MegatronNlgError, match="No space left on device; nothing half-written"):
        append_row(Path("/dev/full"), {"a": 1})
