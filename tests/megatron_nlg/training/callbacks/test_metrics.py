"""Rows and events on disk, across a kill and a resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.config.errors import InputError
from megatron_nlg.training.callbacks.metrics import MetricsFile, keep_until, read_rows
from tests.megatron_nlg.training.callbacks.example import metrics, run_in, validation


def train(folder: Path, start: int, end: int, *, killed: bool = False) -> None:
    """Steps start+1 … end, validated at the end; a killed run closes nothing."""
    run, callback = run_in(folder, start_step=start), MetricsFile()
    callback.on_start(run)
    for step in range(start + 1, end + 1):
        callback.on_step_start(run, step)
        callback.on_step(run, metrics(step))
        if step % 4 == 0:
            callback.on_validation(run, validation(step))
            callback.on_checkpoint(run, step, folder / "checkpoints" / f"step_{step}")
    if not killed:
        callback.on_end(run, end, "done")


def test_rows_hold_what_the_contract_says(tmp_path: Path) -> None:
    train(tmp_path, 0, 4)
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 4, 4]
    assert set(rows[0]) == {
        *("step", "samples", "tokens", "loss", "grad_norm", "lr", "batch_size", "step_seconds"),
        *("tokens_per_second", "model_tflops_per_gpu", "mfu", "data_seconds", "sequence_length"),
    }
    assert rows[4] == {"split": "valid", "step": 4, "source": "docs", "loss": 3.6, "perplexity": 50.0}
    events = read_rows(tmp_path / "events.jsonl")
    assert [(e["event"], e["step"]) for e in events] == [("start", 0), ("checkpoint", 4), ("end", 4)]
    assert events[0]["layout"] == {"pipeline": 2, "data": 2, "tensor": 2, "interleave": 1, "context": 1}
    assert "FLOPs per token" in events[0]["throughput"]
    assert events[1]["path"] == "checkpoints/step_4"
    assert events[2]["status"] == "done"
    assert all(isinstance(e["time"], float) for e in events)


def test_rows_are_on_disk_while_the_run_lives(tmp_path: Path) -> None:
    train(tmp_path, 0, 3, killed=True)
    assert [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")] == [1, 2, 3]


def test_a_resumed_curve_goes_on_as_one(tmp_path: Path) -> None:
    train(tmp_path, 0, 7, killed=True)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "loss"')  # what kill -9 leaves
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"event": "sig')
    train(tmp_path, 4, 8)

    once = tmp_path / "once"
    once.mkdir()
    train(once, 0, 8)
    assert (tmp_path / "metrics.jsonl").read_bytes() == (once / "metrics.jsonl").read_bytes()
    events = read_rows(tmp_path / "events.jsonl")
    assert [(e["event"], e["step"]) for e in events] == [
        *(("start", 0), ("checkpoint", 4)),
        *(("resume", 4), ("checkpoint", 8), ("end", 8)),
    ]
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_rollback_cuts_off_the_steps_that_are_taken_again(tmp_path: Path) -> None:
    run, callback = run_in(tmp_path), MetricsFile()
    callback.on_start(run)
    for step in range(1, 8):
        callback.on_step(run, metrics(step))
    callback.on_rollback(run, 4)
    callback.on_step(run, metrics(5, loss=1.0))
    callback.on_end(run, 5, "done")
    assert [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4, 5]
    assert read_rows(tmp_path / "metrics.jsonl")[-1]["loss"] == 1.0


def test_a_run_killed_before_its_first_checkpoint_starts_its_curve_again(tmp_path: Path) -> None:
    train(tmp_path, 0, 3, killed=True)
    train(tmp_path, 0, 2)
    assert [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")] == [1, 2]
    assert [e["event"] for e in read_rows(tmp_path / "events.jsonl")] == ["start", "resume", "end"]


def test_what_is_not_a_number_is_null(tmp_path: Path) -> None:
    run, callback = run_in(tmp_path), MetricsFile()
    callback.on_start(run)
    callback.on_step(run, metrics(1, loss=float("nan"), grad_norm=float("inf")))
    row = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=pytest.fail)
    assert row["loss"] is None
    assert row["grad_norm"] is None


@pytest.mark.parametrize("line", ['{"step": 2, ', "[1, 2]", "", "\udcff", "NaN"])
def test_a_broken_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n'.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=r"metrics\.jsonl:2: not a JSON object"):
        read_rows(path)


def test_a_row_without_a_step_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"stop": 2}\n')
    with pytest.raises(InputError, match=r"metrics\.jsonl:2: a whole number is expected as step, not None"):
        keep_until(path, 1)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(rows=st.lists(st.dictionaries(st.text(), json_values, max_size=4), max_size=6), data=st.data())
def test_any_cut_keeps_the_complete_lines(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("cut") / "metrics.jsonl"
    whole = "".join(json.dumps(row, ensure_ascii=data.draw(st.booleans())) + "\n" for row in rows).encode(
        "utf-8", "surrogatepass"
    )
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    path.write_bytes(cut)
    assert read_rows(path) == rows[: cut.count(b"\n")]
