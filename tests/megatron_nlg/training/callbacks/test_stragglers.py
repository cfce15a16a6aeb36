"""Which ranks are named as slow."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from megatron_nlg.config.schema import RunConfig
from megatron_nlg.parallel.heartbeats import FOLDER, Heartbeat, write_heartbeat
from megatron_nlg.parallel.layout import Layout
from megatron_nlg.training.callbacks.stragglers import Stragglers, stragglers
from megatron_nlg.training.trainer import Trainer
from tests.megatron_nlg.data.corpus import write_corpus
from tests.megatron_nlg.training.callbacks.example import run_in
from tests.tiny import tiny
from tests.world import World


def beat(rank: int, last: int, **seconds: float) -> Heartbeat:
    return Heartbeat(rank, "node", 1, last + 3, "data", 0, 0, 0.0, (last - 9, last), seconds)


USUAL = {"data": 0.1, "forward-backward": 5.0, "wait": 1.0}


def test_a_slow_phase_is_named_and_waiting_is_not() -> None:
    beats = {rank: beat(rank, 10, **USUAL) for rank in range(4)}
    assert stragglers(beats, 1.5) == []
    beats[2] = beat(2, 10, **{**USUAL, "forward-backward": 9.0, "wait": 0.0})
    assert stragglers(beats, 1.5) == [
        {"rank": 2, "node": "node", "phase": "forward-backward", "seconds": 9.0, "median": 5.0}
    ]
    assert stragglers(beats, 2.0) == []
    beats[2] = beat(2, 10, **{**USUAL, "wait": 50.0})  # it waits for others
    assert stragglers(beats, 1.5) == []
    beats[2] = beat(2, 10, **{**USUAL, "data": 0.2})  # twice as slow, in 1.6 % of the time
    assert stragglers(beats, 1.5) == []


def test_a_window_is_compared_once_and_only_when_all_have_written_it(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    watch = Stragglers(run_in(tmp_path, layout=Layout(data=2)))
    write_heartbeat(tmp_path, beat(0, 10, data=5.0))
    assert watch.look() is None  # rank 1 has not written yet
    write_heartbeat(tmp_path, beat(1, 20, data=1.0))
    assert watch.look() is None  # another window
    write_heartbeat(tmp_path, beat(1, 10, data=1.0))
    event = watch.look()
    assert event and event["steps"] == [1, 10] and [slow["rank"] for slow in event["ranks"]] == [0]
    assert watch.look() is None


class Slow:
    """A dataset that takes its time."""

    def __init__(self, dataset: Any):
        self.dataset = dataset

    def __getitem__(self, index: int) -> Any:
        time.sleep(0.02)
        return self.dataset[index]


def train_with_a_slow_rank(config: RunConfig, folder: Path, slow: int) -> str:
    trainer = Trainer(config, folder)
    if trainer.context.rank == slow:
        trainer.datasets = replace(trainer.datasets, train=Slow(trainer.datasets.train))  # type: ignore[arg-type]
    status = trainer.train()
    trainer.close()
    return status


def test_a_rank_that_reads_slowly_is_named_in_a_run(world: World, tmp_path: Path) -> None:
    blend = write_corpus(tmp_path / "corpus")
    config = tiny(
        f"data.blend={blend}",
        f"schedule.train_tokens={12 * 32 * 13}",
        "evaluation.batches=0",
        "heartbeat.interval_seconds=0.1",
        "watchdog.timeout_seconds=60",
        "stragglers={interval: 4, factor: 2}",
        "batch.global=12",
    )
    assert world.run(3, train_with_a_slow_rank, config, tmp_path, 1) == ["done"] * 3
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    named = [event["ranks"] for event in events if event["event"] == "stragglers"]
    assert named and all((ranks[0]["rank"], ranks[0]["phase"]) == (1, "data") for ranks in named)
