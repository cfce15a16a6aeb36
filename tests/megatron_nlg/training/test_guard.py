"""The guard's rules, and a run over bad samples: it ends as the same run that was never given them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.config.errors import NumericError
from megatron_nlg.config.schema import Guard, RunConfig
from megatron_nlg.training.checkpoint.format import Progress, steps_in
from megatron_nlg.training.guard import GuardState, LossGuard
from megatron_nlg.training.trainer import Trainer
from tests.megatron_nlg.data.corpus import write_corpus
from tests.megatron_nlg.training.test_trainer import StopAt, StoppedError, curve, rows
from tests.tiny import tiny
from tests.world import World


def guard(*losses: float, **settings: Any) -> LossGuard:
    made = LossGuard(Guard(**{"spike_window": 8, **settings}), GuardState())
    for loss in losses:
        made.applied(loss)
    return made


def test_a_spike_is_judged_by_the_median_and_its_deviation() -> None:
    losses = [3.0, 3.1, 2.9, 3.0, 3.1, 2.9, 3.05, 2.95]
    made = guard(*losses, spike_margin=0.0)
    assert made.limit() == pytest.approx(3.0 + 10 * 1.4826 * 0.075)
    assert made.objection(made.limit()) is None
    assert "is a spike" in str(made.objection(made.limit() + 1e-6))
    assert guard(*losses, 50.0, spike_margin=0.0).limit() < 6  # one outlier that was let in does not blind it
    assert guard(*losses, spike_margin=2.0).limit() == pytest.approx(5.0)
    assert guard(*[3.0] * 8, spike_margin=0.2).limit() == pytest.approx(3.2)


def test_no_verdict_before_the_window_is_full_but_on_what_is_no_number() -> None:
    made = guard(*[3.0] * 7)
    assert made.objection(1000.0) is None
    assert made.objection(math.nan) == "the loss is nan"
    assert made.objection(math.inf) == "the loss is inf"


def test_a_window_of_skips_is_suspect_and_too_many_lead_back() -> None:
    made = guard(max_skips=2, suspect_window=5)
    made.skipped(10, (100, 110))
    assert [step for step in range(10, 20) if made.is_suspect(step)] == [10, 11, 12, 13, 14]
    made.skipped(15, (150, 160))  # the first is forgotten
    assert not made.must_roll_back(15)
    made.skipped(17, (170, 180))
    assert made.must_roll_back(17)
    made.rolled_back(GuardState(losses=(1.0,), left_out=((20, 30),)))
    assert made.state == GuardState(losses=(1.0,), left_out=((20, 30), (150, 180)), rollbacks=1)


ranges = st.lists(st.tuples(st.integers(0, 100), st.integers(1, 20)).map(lambda r: (r[0], r[0] + r[1])), max_size=6)


@given(ranges, ranges.filter(bool))
def test_left_out_samples_are_the_union(before: list[tuple[int, int]], bad: list[tuple[int, int]]) -> None:
    made = LossGuard(Guard(suspect_window=1000), GuardState())
    for step, samples in enumerate(bad):
        made.skipped(step, samples)
    made.rolled_back(GuardState(left_out=tuple(before)))
    want = {i for a, b in before for i in range(a, b)} | set(range(min(a for a, _ in bad), max(b for _, b in bad)))
    got = made.state.left_out
    assert {i for a, b in got for i in range(a, b)} == want
    assert all(b < c for (_, b), (c, _) in pairwise(got))  # in order, and apart


@given(st.lists(st.floats(allow_nan=False)), ranges, st.integers(0, 9))
def test_the_state_survives_a_checkpoint(losses: list[float], left_out: list[tuple[int, int]], rollbacks: int) -> None:
    state = GuardState(tuple(losses), ((3, 10, 20),), tuple(left_out), rollbacks)
    assert GuardState.from_json(json.loads(json.dumps(state.to_json()))) == state
    assert GuardState.from_json({}) == GuardState()


# ---- a run ---------------------------------------------------------------------------------------------------------

SIZE = 8
"""Samples of a step."""
BAD = (11 * SIZE, 13 * SIZE)
"""Samples of steps 12 and 13."""


class Spoilt:
    """A dataset in which some samples ask for tokens that no other has, or have a loss that is no number."""

    def __init__(self, dataset: Any, samples: tuple[int, int], how: str):
        self.dataset, self.samples, self.how = dataset, samples, how

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = dict(self.dataset[index])
        if self.samples[0] <= index < self.samples[1]:
            if self.how == "spike":
                sample["labels"] = sample["labels"] % 40 + 205
            else:
                sample["loss_mask"] = sample["loss_mask"] * math.nan
        return sample


def go(config: RunConfig, folder: Path, bad: tuple[int, int], how: str, stop: int | None = None) -> tuple[str, int]:
    """Train on this rank; how it ended, and how many updates it made."""
    folder.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(config, folder)
    if how == "left out":  # the reference: these samples were never there
        trainer.guard.state = GuardState(left_out=(bad,))
    else:
        trainer.datasets = replace(trainer.datasets, train=Spoilt(trainer.datasets.train, bad, how))  # type: ignore[arg-type]
    if stop:
        trainer.callbacks.append(StopAt(stop, "crash"))
    try:
        status = trainer.train()
    except (StoppedError, NumericError) as error:
        status = f"{type(error).__name__}: {error}"
    trainer.checkpoints._thread.shutdown(wait=True)
    return status, trainer.progress.step - trainer.progress.skipped_steps


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    blend = write_corpus(tmp_path_factory.mktemp("corpus"))
    return [
        f"data.blend={blend}",
        f"batch.global={SIZE}",
        f"schedule.train_tokens={SIZE * 32 * 18}",
        "checkpoint.interval=5",
        "checkpoint.keep_last=5",
        "evaluation.batches=0",
        "guard={spike_window: 8, spike_factor: 3, spike_margin: 0.1, max_skips: 2, suspect_window: 4}",
    ]


@pytest.fixture(scope="module")
def reference(world: World, settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    assert world.run(2, go, tiny(*settings), folder, BAD, "left out") == [("done", 16)] * 2
    return folder


@pytest.mark.parametrize("how", ["spike", "nan"])
def test_bad_samples_are_left_out_after_a_rollback(
    world: World, settings: list[str], reference: Path, tmp_path: Path, how: str
) -> None:
    assert world.run(2, go, tiny(*settings), tmp_path, BAD, how) == [("done", 16)] * 2
    assert curve(tmp_path) == curve(reference)
    assert [row["samples"] for row in rows(tmp_path)][10:12] == [11 * SIZE, 14 * SIZE]
    told = {event["event"]: event for event in events(tmp_path)}
    assert told["rollback"]["step"] == 10 and told["rollback"]["left_out"] == [list(BAD)]
    skipped = [event for event in events(tmp_path) if event["event"] == "skipped step"]
    assert [event["step"] for event in skipped] == [12, 13]
    assert how in skipped[0]["reason"]
    saved = json.loads((tmp_path / "checkpoints" / "step_00000016" / "progress.json").read_text())
    assert Progress(**saved).guard["left_out"] == [list(BAD)]


@pytest.mark.parametrize("step", [12, 14])
def test_a_kill_around_a_rollback_changes_nothing(
    world: World, settings: list[str], reference: Path, tmp_path: Path, step: int
) -> None:
    config = tiny(*settings, "parallel.zero_stage=2")  # its gradients are on their way when a step is skipped
    first = world.run(2, go, config, tmp_path, BAD, "spike", step)
    assert first[0][0].startswith("StoppedError")
    assert world.run(2, go, config, tmp_path, BAD, "spike") == [("done", 16)] * 2
    for got, want in zip(curve(tmp_path), curve(reference), strict=True):
        assert got == pytest.approx(want, rel=1e-5)


def test_samples_that_stay_bad_end_the_run(world: World, settings: list[str], tmp_path: Path) -> None:
    config = tiny(*settings, "guard.max_rollbacks=1")
    for status, _ in world.run(1, go, config, tmp_path, (BAD[0], 10_000), "nan"):
        assert status.startswith("NumericError: 2 steps were skipped from step 12 to step 13, after 1 rollbacks")
    assert max(steps_in(tmp_path / "checkpoints")) == 10  # none of a suspect window
