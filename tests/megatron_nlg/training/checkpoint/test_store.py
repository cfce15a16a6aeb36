"""Loading from other runs, and what is left when a writer is killed. The loop's own saves: test_trainer.py."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from megatron_nlg.config.errors import MegatronNlgError
from megatron_nlg.parallel.context import ParallelContext
from megatron_nlg.training.checkpoint import writer
from megatron_nlg.training.checkpoint.format import Progress, candidates, model_identity, name_of, problems_of
from megatron_nlg.training.checkpoint.publish import publish_alone
from megatron_nlg.training.checkpoint.state import Piece
from megatron_nlg.training.checkpoint.store import Checkpoints
from megatron_nlg.training.engine import Engine
from tests.megatron_nlg.training.checkpoint.fixtures.make import SETTINGS, STEPS, steps
from tests.megatron_nlg.training.checkpoint.test_format import unpacked
from tests.megatron_nlg.training.steps import batch
from tests.tiny import LLAMA, tiny
from tests.world import World

FINE_TUNED = 5


def start(folder: Path, overrides: tuple[str, ...], more: dict[str, Any]) -> tuple[Progress, float, int] | str:
    """Start a run in an empty folder, or in one with checkpoints; its progress, first loss and Adam's count, or why
    not."""
    config = tiny(*SETTINGS, *overrides)
    context = ParallelContext.create(config)
    engine = Engine(config, context)
    checkpoints = Checkpoints(folder, config.checkpoint, context)
    try:
        progress, _ = checkpoints.load(engine, model_identity(config) | more)
    except MegatronNlgError as error:
        return f"{error.exit_code} {error}"
    loss = float(engine.evaluate(batch(config, context, 0, 4)))
    counts = [int(state["step"]) for state in engine.deepspeed.optimizer.optimizer.state.values() if "step" in state]
    if not progress.step:  # another run saves its own first checkpoint
        engine.train_step(batch(config, context, 0, 4), 0.0, 0)
        checkpoints.save(engine, replace(progress, step=FINE_TUNED, identity=model_identity(config) | more))
        checkpoints.wait()
    return progress, loss, max(counts, default=0)


@pytest.mark.parametrize("overrides", [(), ("parallel.zero_stage=3",)])
def test_another_runs_weights_or_all_of_it(world: World, tmp_path: Path, overrides: tuple[str, ...]) -> None:
    source = unpacked(2, tmp_path / "source" / "checkpoints")
    ((resumed, want, updates),) = world.run(1, start, source, overrides, {})
    assert (resumed.step, updates) == (STEPS, STEPS)

    weights = (f"checkpoint.load_from={source.parent}", "model.init_std=0.5", *overrides)
    new = tmp_path / "new"
    assert world.run(1, start, new, weights, {"seed": 7}) == [(Progress(), want, 0)]
    (new / ".step_00000009.partial").mkdir()
    ((later, _, _),) = world.run(1, start, new, weights, {"seed": 7})
    assert later.step == FINE_TUNED  # its own checkpoint goes before load_from
    assert [path.name for path in new.iterdir() if path.is_dir()] == [name_of(FINE_TUNED)]

    # One without a word on data was imported: it may go on with any.
    everything = (f"checkpoint.load_from={source}/step_00000003", "checkpoint.load=all", *overrides)
    ((fork, loss, updates),) = world.run(1, start, tmp_path / "fork", everything, {"seed": 7})
    assert (fork.step, fork.identity["seed"], loss, updates) == (STEPS, 7, want, STEPS)
    (answer,) = world.run(1, start, tmp_path / "2", (f"checkpoint.load_from={new}", "checkpoint.load=all"), {"seed": 8})
    assert answer.startswith("2 ") and "seed is 8 and was 7; set these back, or set checkpoint.load=weights" in answer


@pytest.mark.parametrize(
    ("overrides", "more", "says"),
    [
        (("model.hidden_size=16",), {}, "model.hidden_size is 16 and was 8; checkpoint.load=weights needs the same"),
        (("checkpoint.load_from=/none",), {}, "/none: holds no checkpoint; name a run's folder"),
    ],
)
def test_what_does_not_fit_is_named(
    world: World, tmp_path: Path, overrides: tuple[str, ...], more: dict[str, Any], says: str
) -> None:
    source = unpacked(2, tmp_path / "source")
    (answer,) = world.run(1, start, tmp_path / "new", (f"checkpoint.load_from={source}", *overrides), more)
    assert answer.startswith("2 ") and says in answer


# ---- other layouts: those of a whole run are in test_trainer.py ----------------------------------------------------


def some_steps(folder: Path, first: int, count: int, overrides: tuple[str, ...]) -> list[float]:
    """Losses of steps first, first + 1, … after the checkpoint of step `first` if there is one; saves."""
    config = tiny(*overrides)
    context = ParallelContext.create(config)
    engine = Engine(config, context)
    checkpoints = Checkpoints(folder, config.checkpoint, context)
    progress, _ = checkpoints.load(engine, model_identity(config))
    assert progress.step == first
    engine.restore_loss_scale(progress.loss_scale)
    losses = steps(engine, config, context, first, count)
    progress = Progress(first + count, loss_scale=engine.loss_scale_state(), identity=model_identity(config))
    checkpoints.save(engine, progress)
    checkpoints.wait()
    return losses


TENSOR_AND_PIPE = (8, ("parallel.tensor=2", "parallel.pipeline=2", "parallel.sequence=true"))
ZERO_3 = (2, ("parallel.zero_stage=3", "parallel.context=2"))
OFFLOAD = (4, ("parallel.zero_stage=2", "parallel.offload_optimizer=true", "parallel.tensor=2"))
FP16 = ("precision=fp16", "loss_scale.initial=256")


@pytest.mark.parametrize(
    ("model", "layouts", "tolerance"),
    [
        (tuple(LLAMA.split()), [TENSOR_AND_PIPE, ZERO_3, OFFLOAD], 1e-5),
        (FP16, [OFFLOAD, (2, ()), (2, ("parallel.zero_stage=3",))], 5e-3),
    ],
)
def test_other_models_precisions_and_offload(
    world: World, tmp_path: Path, model: tuple[str, ...], layouts: list[tuple[int, tuple[str, ...]]], tolerance: float
) -> None:
    moving = []
    for number, (ranks, overrides) in enumerate(layouts):
        moving += world.run(ranks, some_steps, tmp_path, 2 * number, 2, (*model, *overrides))[0]
    (staying,) = world.run(1, some_steps, tmp_path / "one rank", 0, 2 * len(layouts), model)
    assert moving == pytest.approx(staying, rel=tolerance)


# ---- killed writers ------------------------------------------------------------------------------------------------


def save(folder: Path, step: int) -> None:
    """A small checkpoint, written by this process alone."""
    shape = torch.Size([50, 40])
    pieces = [Piece(f"weight.{name}", shape, torch.Size([0, 0]), shape, None) for name in "ab"]
    shutil.rmtree(folder / name_of(step), ignore_errors=True)
    publish_alone(folder, Progress(step), pieces, lambda _: torch.full(shape, float(step)), "a test", files=2)


def test_a_disk_that_takes_no_more_leaves_nothing(tmp_path: Path) -> None:
    """The kernel refuses a write in the middle of a file; torch.save alone would say something else."""
    save(tmp_path, 1)
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        try:
            save(tmp_path, 2)
        except MegatronNlgError as error:
            os._exit(0 if "step_00000002 can't be written: File too large; nothing of it is left" in str(error) else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", name_of(1)]


def killed_at(instant: int, body: Callable[[], None]) -> bool:
    """Run in a process that is killed at its n-th write, sync or rename; whether it got that far."""
    child = os.fork()
    if child == 0:
        left = [instant]

        def deadly(function: Any) -> Any:
            def call(*args: Any, **options: Any) -> Any:
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*args, **options)

            return call

        writer.HashingFile.write = deadly(writer.HashingFile.write)  # type: ignore[method-assign]
        for holder, name in ((os, "fsync"), (Path, "rename"), (Path, "replace"), (Path, "mkdir")):
            setattr(holder, name, deadly(getattr(holder, name)))
        try:
            body()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL)
    return status != 0


def test_killed_at_any_instant_the_visible_checkpoints_are_whole(tmp_path: Path) -> None:
    save(tmp_path, 1)
    instant = 0
    while killed_at(instant, lambda: save(tmp_path, 2)):
        found = [folder.name for folder in candidates(tmp_path)]
        assert found[-1] == name_of(1)
        assert [problems_of(folder) for folder in candidates(tmp_path)] == [[]] * len(found)
        instant += 3 if instant % 5 else 1
    assert instant > 20
    assert [folder.name for folder in candidates(tmp_path)] == [name_of(2), name_of(1)]
