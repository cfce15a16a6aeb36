"""The loop, its checkpoints and their equality over kill, resume and other layouts.

A resumed run on the same layout must repeat every digit. On another layout sums are made in another order: 1e-5
relative, as in test_engine.py.
"""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from data_prep.files import read_json
from megatron_nlg.config.errors import MegatronNlgError
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.data.labelled import with_epochs
from megatron_nlg.training.callbacks.base import Callback, Run, StepMetrics
from megatron_nlg.training.checkpoint import publish, writer
from megatron_nlg.training.checkpoint.format import Progress, problems_of, steps_in
from megatron_nlg.training.trainer import Trainer
from tests.megatron_nlg.data.corpus import write_corpus
from tests.megatron_nlg.data.texts import write_texts
from tests.tiny import tiny
from tests.world import World

TOKENS = 16 * 32 * 8  # 8 steps
LAYOUT = ("parallel.tensor=2", "parallel.pipeline=2", "parallel.sequence=true")


class StoppedError(Exception):
    """Training was cut off at once, as by a kill."""


class StopAt(Callback):
    """Ends the process's training after a step: at once, or by a signal to one rank."""

    def __init__(self, step: int, how: str):
        self.step, self.how = step, how

    def on_step(self, run: Run, metrics: StepMetrics) -> None:
        if metrics.step == self.step and self.how == "crash":
            raise StoppedError
        if metrics.step == self.step and self.how == "signal" and run.is_main:
            os.kill(os.getpid(), signal.SIGTERM)


def go(config: RunConfig, folder: Path, stop: tuple[int, str] | None = None) -> str:
    """Train on this rank; returns the status."""
    folder.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(config, folder)
    if stop:
        trainer.callbacks.append(StopAt(*stop))
    try:
        status = trainer.train()
    except StoppedError:
        status = "crashed"
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    trainer.checkpoints._thread.shutdown(wait=True)
    trainer.engine.destroy()
    return status


def rows(folder: Path, split: str = "train") -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in lines if row.get("split", "train") == split]


def curve(folder: Path) -> list[tuple[int, float, float]]:
    return [(row["step"], row["loss"], row["grad_norm"]) for row in rows(folder)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def settings(corpus: Path) -> list[str]:
    return [
        f"data.blend={corpus}",
        "batch.micro=4",
        f"schedule.train_tokens={TOKENS}",
        "schedule.warmup_tokens=1024",
        "checkpoint.interval=3",
        "evaluation.batches=1",
        "data.split=[0.8, 0.2]",
    ]


@pytest.fixture(scope="module")
def undisturbed(world: World, settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert world.run(8, go, tiny(*settings, *LAYOUT), folder) == ["done"] * 8
    return folder


@pytest.fixture(scope="module")
def stopped(world: World, settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run after a stop signal in step 4; to be copied before it goes on."""
    folder = tmp_path_factory.mktemp("stopped")
    assert world.run(8, go, tiny(*settings, *LAYOUT), folder, (4, "signal")) == ["signal"] * 8
    return folder


def test_run_folder(undisturbed: Path) -> None:
    got = rows(undisturbed)
    assert [row["step"] for row in got] == list(range(1, 9))
    assert got[-1]["samples"] == 128 and got[-1]["tokens"] == TOKENS
    assert {row["source"] for row in rows(undisturbed, "valid")} == {"docs", "code"}
    assert sorted(steps_in(undisturbed / "checkpoints")) == [6, 8]  # keep_last: 2
    assert (undisturbed / "checkpoints" / "latest").read_text() == "step_00000008\n"
    assert (undisturbed / "config.yaml").exists()
    assert got[-1]["loss"] < got[0]["loss"]
    events = [json.loads(line) for line in (undisturbed / "events.jsonl").read_text().splitlines()]
    costs = [event for event in events if event["event"] == "checkpoint cost"]
    assert [cost["step"] for cost in costs] == [3, 6, 8]
    for cost in costs:
        assert cost["checkpoint_stall_seconds"] > 0 and cost["bytes"] > 3 * 4 * 200_000  # parameters, in fp32


@pytest.mark.parametrize("step", [3, 5])
def test_resume_after_a_crash_repeats_every_digit(
    world: World, settings: list[str], undisturbed: Path, tmp_path: Path, step: int
) -> None:
    config = tiny(*settings, *LAYOUT)
    assert world.run(8, go, config, tmp_path, (step, "crash")) == ["crashed"] * 8
    assert world.run(8, go, config, tmp_path) == ["done"] * 8
    assert curve(tmp_path) == curve(undisturbed)
    assert [row["loss"] for row in rows(tmp_path, "valid")] == [row["loss"] for row in rows(undisturbed, "valid")]


def test_signal_saves_and_leaves_together(
    world: World, settings: list[str], undisturbed: Path, stopped: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(stopped, folder)
    assert (folder / "checkpoints" / "latest").read_text() == "step_00000004\n"
    events = [json.loads(line)["event"] for line in (folder / "events.jsonl").read_text().splitlines()]
    assert "signal" in events
    assert world.run(8, go, tiny(*settings, *LAYOUT), folder) == ["done"] * 8
    assert curve(folder) == curve(undisturbed)


def test_a_finished_run_has_nothing_left_to_do(
    world: World, settings: list[str], undisturbed: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    before = (folder / "metrics.jsonl").read_bytes()
    assert world.run(8, go, tiny(*settings, *LAYOUT), folder) == ["done"] * 8
    assert (folder / "metrics.jsonl").read_bytes() == before


RESHARDS = [
    (1, ""),
    (4, "parallel.tensor=4"),
    (2, "parallel.pipeline=2 parallel.interleave=2"),
    (2, "parallel.zero_stage=2"),
    (2, "parallel.zero_stage=3"),
    (4, "parallel.tensor=2 batch.micro=2 parallel.recompute=full"),
]


@pytest.mark.parametrize(("ranks", "overrides"), RESHARDS)
def test_resume_in_another_layout(
    world: World, settings: list[str], undisturbed: Path, stopped: Path, tmp_path: Path, ranks: int, overrides: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(stopped, folder)
    assert set(world.run(ranks, go, tiny(*settings, *overrides.split()), folder)) == {"done"}
    for got, want in zip(curve(folder), curve(undisturbed), strict=True):
        assert got[0] == want[0]
        assert got[1] == pytest.approx(want[1], rel=1e-5)
        assert got[2] == pytest.approx(want[2], rel=1e-4)


SHORT_RUN = (f"schedule.train_tokens={TOKENS // 2}", "checkpoint.interval=2")
"""Four steps: a crash in step 3 loses one, and two are made after it."""


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_resume_in_bf16_and_from_every_zero_stage(
    world: World, settings: list[str], tmp_path: Path, stage: int
) -> None:
    config = tiny(*settings, *SHORT_RUN, "precision=bf16", f"parallel.zero_stage={stage}")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert world.run(2, go, config, whole) == ["done"] * 2
    assert world.run(2, go, config, cut, (3, "crash")) == ["crashed"] * 2
    assert world.run(2, go, config, cut) == ["done"] * 2
    assert len(curve(whole)) == 4 and curve(cut) == curve(whole)


def test_resume_with_dropout_repeats_every_digit(world: World, settings: list[str], tmp_path: Path) -> None:
    config = tiny(*settings, *SHORT_RUN, "model.dropout=0.1", "parallel.tensor=2")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert world.run(4, go, config, whole) == ["done"] * 4
    assert world.run(4, go, config, cut, (3, "crash")) == ["crashed"] * 4
    assert world.run(4, go, config, cut) == ["done"] * 4
    assert len(curve(whole)) == 4 and curve(cut) == curve(whole)


def test_losses_do_not_depend_on_the_data_parallel_size(world: World, settings: list[str], tmp_path: Path) -> None:
    ramp = ("batch.micro=2", "batch.ramp={start: 8, increment: 8, tokens: 1024}")
    world.run(1, go, tiny(*settings, *ramp), tmp_path / "one")
    world.run(4, go, tiny(*settings, *ramp), tmp_path / "four")
    for got, want in zip(curve(tmp_path / "four"), curve(tmp_path / "one"), strict=True):
        assert got == pytest.approx(want, rel=1e-5)
    assert [row["batch_size"] for row in rows(tmp_path / "four")][:5] == [8, 8, 8, 8, 16]


# ---- classification --------------------------------------------------------------------------------------------------


def test_a_classifier_learns_a_planted_rule_and_resumes_to_the_digit(world: World, tmp_path: Path) -> None:
    base = [*write_texts(tmp_path), "data.classification.epochs=4", "optimizer.lr=2e-3"]
    config = with_epochs(tiny(*base, "parallel.tensor=2", "checkpoint.interval=5"))
    whole, cut, other = (tmp_path / name for name in ("whole", "cut", "other"))
    assert world.run(2, go, config, whole) == ["done"] * 2
    assert world.run(2, go, config, cut, (14, "crash")) == ["crashed"] * 2
    shutil.copytree(cut, other)
    assert world.run(2, go, config, cut) == ["done"] * 2
    assert curve(cut) == curve(whole) and rows(cut, "valid") == rows(whole, "valid")
    assert [row["step"] for row in rows(whole, "valid")] == list(range(6, 25, 6))  # after every epoch of 96 texts
    last = rows(whole, "valid")[-1]
    assert (last["accuracy"], last["f1"], last["examples"]) == (1.0, 1.0, 37)
    assert "perplexity" not in last
    # On two replicas it goes on to the same curve.
    assert world.run(2, go, with_epochs(tiny(*base, "checkpoint.interval=5")), other) == ["done"] * 2
    for got, want in zip(curve(other), curve(whole), strict=True):
        assert got == pytest.approx(want, rel=1e-3, abs=1e-5)  # losses come near 0
    again = with_epochs(tiny(*base, "data.classification.epochs=1", f"checkpoint.load_from={whole}"))
    assert world.run(1, go, again, tmp_path / "again") == ["done"]
    loaded = [json.loads(line) for line in (tmp_path / "again" / "events.jsonl").read_text().splitlines()]
    assert [e for e in loaded if e["event"] == "weights loaded" and "left_initial" not in e]  # its head as well
    assert rows(tmp_path / "again")[0]["loss"] < 0.05


def test_a_classifier_goes_on_with_the_same_texts_only(world: World, tmp_path: Path) -> None:
    base = write_texts(tmp_path, train=20)
    config = with_epochs(tiny(*base))
    assert world.run(1, go, config, tmp_path / "run", (2, "signal")) == ["signal"]
    lines = (tmp_path / "train.tsv").read_text().splitlines()
    (tmp_path / "train.tsv").write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    with pytest.raises(AssertionError, match=r"training examples is '.*' and was '.*'"):
        world.run(1, go, config, tmp_path / "run")


# ---- damage --------------------------------------------------------------------------------------------------------


def damage(folder: Path, how: str) -> None:
    newest = folder / "checkpoints" / "step_00000008"
    victim = sorted(newest.glob("*.distcp"))[3]
    data = bytearray(victim.read_bytes())
    if how == "flip":
        data[len(data) // 2] ^= 1
        victim.write_bytes(data)
    elif how == "truncate":
        victim.write_bytes(data[:-100])
    elif how == "delete":
        victim.unlink()
    else:
        (newest / how).write_bytes(b"{}")


@pytest.mark.parametrize("how", ["flip", "truncate", "delete", "manifest.json", "progress.json"])
def test_damaged_checkpoint_falls_back_to_the_last_good_one(
    world: World, settings: list[str], undisturbed: Path, tmp_path: Path, how: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    damage(folder, how)
    assert world.run(8, go, tiny(*settings, *LAYOUT), folder) == ["done"] * 8
    assert curve(folder) == curve(undisturbed)
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert any(e["event"] == "damaged checkpoint" and "step_00000008" in e["problem"] for e in events)
    assert problems_of(folder / "checkpoints" / "step_00000008") == []  # written again


def refused(config: RunConfig, folder: Path) -> str:
    try:
        go(config, folder)
    except MegatronNlgError as error:
        return f"{error.exit_code} {error}"
    return "trained"


def test_all_checkpoints_damaged_is_an_error_not_a_fresh_start(
    world: World, settings: list[str], undisturbed: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    for path in (folder / "checkpoints").glob("step_*/__0_0.distcp"):
        path.write_bytes(b"")
    for message in world.run(8, refused, tiny(*settings, *LAYOUT), folder):
        assert message.startswith("2 no checkpoint is whole")
        assert "0 bytes instead of" in message


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("model.hidden_size=128", "model.hidden_size is 128 and was 64"),
        ("seed=7", "seed is 7 and was 1234"),
        ("schedule.train_tokens=8192", "schedule.train_tokens is 8192 and was 4096"),
    ],
)
def test_checkpoint_of_another_run_is_refused(
    world: World, settings: list[str], undisturbed: Path, override: str, named: str
) -> None:
    for message in world.run(8, refused, tiny(*settings, *LAYOUT, override), undisturbed):
        assert message.startswith("2 ") and named in message


def full_disk(config: RunConfig, folder: Path, place: str) -> tuple[str, list[str]]:
    """Train on a disk that is full when a rank's tensors are written, or when rank 0 seals the checkpoint."""

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class Full(io.BytesIO):
        write = fail

    if place == "tensors" and torch.distributed.get_rank() == 2:
        writer.open_file = lambda path: Full()  # type: ignore[assignment,return-value]
    elif place == "manifest" and torch.distributed.get_rank() == 0:
        publish.replace_text = fail
    return refused(config, folder), [path.name for path in (folder / "checkpoints").iterdir()]


@pytest.mark.parametrize("place", ["tensors", "manifest"])
def test_full_disk_is_one_readable_error_and_leaves_nothing_half_written(
    world: World, settings: list[str], tmp_path: Path, place: str
) -> None:
    results = world.run(4, full_disk, tiny(*settings, "parallel.tensor=2"), tmp_path, place)
    for message, _ in results:
        assert message.startswith("1 ") and "the disk is full" in message
    assert results[0][1] == []


def test_progress_of_a_checkpoint_is_readable_by_people(undisturbed: Path) -> None:
    progress = read_json(undisturbed / "checkpoints" / "step_00000008" / "progress.json", "")
    assert Progress(**progress).consumed_samples == 128
    assert progress["identity"]["model.num_layers"] == 4


def keep(config: RunConfig, folder: Path) -> str:
    return go(config, folder)


def test_retention(world: World, settings: list[str], tmp_path: Path) -> None:
    config = tiny(*settings, "checkpoint.interval=1", "checkpoint.keep_last=1", "checkpoint.keep_every=4")
    world.run(1, keep, config, tmp_path)
    assert sorted(steps_in(tmp_path / "checkpoints")) == [4, 8]


def test_missing_blend_is_bad_input_on_every_rank(world: World, tmp_path: Path) -> None:
    for message in world.run(2, refused, tiny(f"data.blend={tmp_path}/none.yaml"), tmp_path / "run"):
        assert message.startswith("2 ") and "none.yaml" in message


# ---- data ----------------------------------------------------------------------------------------------------------

SHORT = "schedule.sequence_warmup={start: 8, multiple: 8, tokens: 1024}"
PACKED = ("data.reset_attention=true", "data.reset_positions=true", "data.mask_eod_loss=true")
LATER = "data.stages=[{from_tokens: 2048, weights: {code: 1}}]"


def test_everything_of_the_data_section_is_equal_in_every_layout_and_after_a_resume(
    world: World, settings: list[str], corpus: Path, tmp_path: Path
) -> None:
    """Sequence warm-up, documents, stages and a further validation set at once."""
    further = f"data.validation={{further: {corpus}}}"
    config = [*settings, SHORT, *PACKED, LATER, further]
    world.run(1, go, tiny(*config), tmp_path / "one")
    one = rows(tmp_path / "one")
    assert [row["sequence_length"] for row in one][:4] == [8, 8, 16, 16]
    assert one[-1]["sequence_length"] == 32
    assert one[-1]["tokens"] >= TOKENS
    assert [row["tokens"] for row in one][:3] == [16 * 8, 2 * 16 * 8, 2 * 16 * 8 + 11 * 8 + 5 * 16]
    assert {row["source"] for row in rows(tmp_path / "one", "valid")} == {"docs", "code", "further"}
    assert all(0 <= row["data_seconds"] <= row["step_seconds"] for row in one)

    folder = tmp_path / "many"
    assert set(world.run(8, go, tiny(*config, *LAYOUT), folder, (5, "crash"))) == {"crashed"}
    assert set(world.run(2, go, tiny(*config, "parallel.context=2"), folder)) == {"done"}
    for got, want in zip(rows(folder), one, strict=True):
        assert (got["tokens"], got["lr"]) == (want["tokens"], want["lr"])
        assert got["loss"] == pytest.approx(want["loss"], rel=1e-5)


def test_a_changed_blend_is_refused_unless_it_is_accepted(
    world: World, settings: list[str], undisturbed: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    shutil.rmtree(folder / "checkpoints" / "step_00000008")
    changed = [*settings, "data.stages=[{from_tokens: 0, weights: {docs: 0.5, code: 0.3}}]"]
    [message, *_] = world.run(2, refused, tiny(*changed), folder)
    assert "source docs has weight 0.5 and had 0.7;" in message
    assert "after sample 96 by data.accept_changed_blend=true" in message

    accepted = tiny(*changed, "data.accept_changed_blend=true")
    assert world.run(2, go, accepted, folder) == ["done"] * 2
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    [event] = [event for event in events if event["event"] == "changed blend"]
    assert (event["samples"], event["changes"]) == (96, ["source docs has weight 0.5 and had 0.7"])
    # What was accepted is the run's own from then on, and what it was before is not.
    assert world.run(2, go, tiny(*changed), folder) == ["done"] * 2
    assert world.run(2, refused, tiny(*settings), folder)[0].startswith("2 ")


def test_a_stage_may_be_added_before_it_is_reached(
    world: World, settings: list[str], undisturbed: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    shutil.rmtree(folder / "checkpoints" / "step_00000008")  # step 6: 3072 tokens
    assert "stage 2048: source code is new" in world.run(2, refused, tiny(*settings, LATER), folder)[0]
    assert world.run(2, go, tiny(*settings, LATER.replace("2048", "3584")), folder) == ["done"] * 2
    assert curve(folder)[6] == pytest.approx(curve(undisturbed)[6], rel=1e-4)
    assert curve(folder)[7] != pytest.approx(curve(undisturbed)[7], rel=1e-4)
