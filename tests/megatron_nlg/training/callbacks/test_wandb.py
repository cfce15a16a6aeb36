"""Real offline runs of Weights & Biases: rows, and one id across a resume."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wandb.proto import wandb_internal_pb2

from megatron_nlg.training.callbacks.wandb import WandB, run_id
from tests.job import until
from tests.megatron_nlg.training.callbacks.example import metrics, run_in, validation


def records(path: Path) -> Iterator[bytes]:
    """Records of an offline run's file: LevelDB's log format, blocks of 32 KiB, after a header of 7 bytes."""
    data, position, parts = path.read_bytes(), 7, b""
    while position + 7 <= len(data):
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768
            continue
        _, size, kind = struct.unpack_from("<IHB", data, position)
        if position + 7 + size > len(data):  # it is still being written
            return
        parts += data[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (1, 4):  # a whole record, or its last part
            yield parts
            parts = b""


def history(path: Path) -> tuple[str, list[dict[str, Any]]]:
    """Run id and logged rows of an offline run."""
    name, rows = "", []
    for data in records(path):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "run":
            name = record.run.run_id
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append({i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items})
    return name, rows


def test_offline_without_a_key_and_the_same_run_after_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no_netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    folder = tmp_path / "run"
    folder.mkdir()
    for start, end in ((0, 3), (2, 4)):
        run, callback = run_in(folder, "log.wandb=true", start_step=start), WandB()
        callback.on_start(run)
        for step in range(start + 1, end + 1):
            callback.on_step(run, metrics(step))
        callback.on_validation(run, validation(end))
        callback.on_end(run, end, "done")

    read: list[tuple[str, list[dict[str, Any]]]] = []

    def is_whole() -> bool:
        read[:] = [history(path) for path in sorted(folder.glob("wandb/offline-run-*/*.wandb"))]
        return [len(rows) for _, rows in read] == [4, 3]

    until(is_whole, "what W&B's own process writes, after `finish` too")
    assert [name for name, _ in read] == [run_id(folder)] * 2
    (_, first), (_, second) = read
    assert [row["step"] for row in first] == [1, 2, 3, 3]
    assert [row["step"] for row in second] == [3, 4, 4]
    assert first[1]["train/loss"] == 4.8
    assert first[3]["valid/docs/loss"] == 3.7


def test_a_service_that_fails_does_not_end_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Broken:
        def log(self, row: dict[str, Any]) -> None:
            raise BrokenPipeError("the service is gone")

    callback = WandB()
    callback._run = Broken()
    run = run_in(tmp_path)
    callback.on_step(run, metrics(1))
    callback.on_step(run, metrics(2))
    callback.on_end(run, 2, "done")
    assert capsys.readouterr().err == "Weights & Biases has stopped: BrokenPipeError: the service is gone\n"
