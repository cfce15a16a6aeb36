"""The training loop, to be read in one sitting: set up, then step after step until the tokens are used up.

The optimizer step itself is `Engine.train_step` in engine.py.
"""

from __future__ import annotations

import math
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any

from torch import Tensor

from megatron_nlg.config.dump import to_yaml
from megatron_nlg.config.errors import InputError, MegatronNlgError, NumericError
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.data.clock import TokenClock
from megatron_nlg.data.datasets import build_datasets
from megatron_nlg.data.documents import Boundaries
from megatron_nlg.data.examples import Examples
from megatron_nlg.data.identity import blend_changes, without_blend
from megatron_nlg.data.loader import Batch, Loader
from megatron_nlg.data.sampler import micro_batch_samples
from megatron_nlg.model.gpt import GPT
from megatron_nlg.parallel.context import ParallelContext
from megatron_nlg.parallel.supervisor import STOP_SIGNALS
from megatron_nlg.training.attribution import first_non_finite
from megatron_nlg.training.callbacks.base import Callback, Run, StepMetrics, ValidationRow
from megatron_nlg.training.callbacks.heartbeat import HeartbeatThread
from megatron_nlg.training.callbacks.metrics import MetricsFile, replace_text
from megatron_nlg.training.callbacks.profiler import MemorySnapshot, Profiler
from megatron_nlg.training.callbacks.progress import LogConsole, ProgressLine
from megatron_nlg.training.callbacks.tensorboard import TensorBoard
from megatron_nlg.training.callbacks.traffic import Traffic
from megatron_nlg.training.callbacks.wandb import WandB
from megatron_nlg.training.checkpoint.format import Progress, check_identity, model_identity, steps_in
from megatron_nlg.training.checkpoint.store import Checkpoints, Saved
from megatron_nlg.training.deadline import Deadline
from megatron_nlg.training.engine import Engine, StepResult
from megatron_nlg.training.guard import GuardState, LossGuard
from megatron_nlg.training.integrity import compare_replicas
from megatron_nlg.training.schedule import BatchSchedule, FixedBatches, LearningRate
from megatron_nlg.training.scores import score
from megatron_nlg.training.statistics import Statistics
from megatron_nlg.training.throughput import Throughput
from megatron_nlg.training.timeline import Timeline

Measure = Callable[[RunConfig, ParallelContext, Sequence[GPT], Callable[[], None]], list[dict[str, Any]]]
"""Measures evaluation.tasks on a model: (config, context, this rank's chunks, to be called as it moves) -> a row a task
on rank 0. Collective. It lies above training, and is handed down."""


class Trainer:
    """A run: its engine, data, checkpoints and callbacks. All ranks make one and call `train` together.

    `fail` ends this process with an error from another thread; `deadline` is when the job must have ended, in seconds
    since the epoch; `measure` evaluates tasks.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: Path,
        terminal: IO[str] | None = None,
        fail: Callable[[Exception], None] | None = None,
        deadline: float | None = None,
        measure: Measure | None = None,
    ):
        self.config, self.folder, self.measure = config, folder, measure
        self.context = context = ParallelContext.create(config)
        self._mib_before = context.device.peak_memory_bytes() >> 20
        self.datasets = build_datasets(config, folder)
        self.engine = Engine(config, context)
        self.learning_rate = LearningRate(config)
        self.clock = TokenClock.of(config)
        self.batches = BatchSchedule(config, context.layout.data)
        self.throughput = Throughput(config, context.layout.world_size, context.device.name)
        self.checkpoints = Checkpoints(folder / "checkpoints", config.checkpoint, context)
        self._identity = model_identity(config) | self.datasets.identity
        self._blend_changes: list[str] = []
        loaded, self._damaged = self.checkpoints.load(self.engine, self._identity, self._check_identity)
        self.progress = replace(loaded, identity=self._identity)
        self.engine.restore_loss_scale(self.progress.loss_scale)
        self._skipped_before = self.progress.skipped_steps
        self._last_save, self._validated = self.progress.step, -1
        self.guard = LossGuard(config.guard, GuardState.from_json(self.progress.guard))
        self.deadline = Deadline(deadline)
        steps_done = self.batches.steps_until(self.progress.consumed_samples)
        self.timeline = Timeline(config.log.timeline_steps, self.engine, context, folder)
        self.statistics = Statistics(config.log, self.engine, context, folder, self.progress.step)
        self.callbacks = choose_callbacks(config, terminal)
        self.heartbeat = HeartbeatThread(context.rank, self.engine.phases, fail)
        if config.heartbeat.interval_seconds:
            self.callbacks.append(self.heartbeat)
        self.run = Run(
            config=config,
            folder=folder,
            is_main=context.is_main,
            layout=context.layout,
            start_step=self.progress.step,
            total_steps=self.progress.step + self.batches.total_steps - steps_done,
            device_name=context.device.name,
        )

    def train(self) -> str:
        """Train until the tokens are used up ("done") or a signal or the time limit asks to stop ("signal", "time").

        The state is saved. Raises NumericError when training goes wrong more often than it may roll back, and
        NodeFaultError when weights are corrupted.
        """
        if self.context.is_main:
            replace_text(self.folder / "config.yaml", to_yaml(self.config))
        status = "failed"
        self._tell(lambda c: c.on_start(self.run))
        try:
            if self._blend_changes:
                self._event("changed blend", samples=self.progress.consumed_samples, changes=self._blend_changes)
            for problem in self._damaged:
                self._event("damaged checkpoint", problem=problem)
            if self.checkpoints.loaded_from and not self.progress.step:
                self._event("weights loaded", path=str(self.checkpoints.loaded_from), **self.checkpoints.left_initial)
            if self.datasets.about:
                self._event("examples", **self.datasets.about)
            self._event("kernels", **self.engine.kernels.active)
            with caught_signals() as caught:
                while (left := self._loop(caught)) == "roll back":
                    self._roll_back()
                self.timeline.finish()
                self._save_now()
                status = left
            mib, before = self.context.device.peak_memory_bytes() >> 20, self._mib_before
            self._event("peak memory", mib=self.context.gather(mib), before_mib=self.context.gather(before))
        finally:
            self._tell(lambda c: c.on_end(self.run, self.progress.step, status))
        return status

    def _loop(self, caught: list[int]) -> str:
        """Steps until the end, a signal, the time limit, or until training must roll back."""
        config, watch = self.config, Stopwatch(self.progress.step)
        train = self._loader(
            self.datasets.train,
            self.batches,
            self.progress.consumed_samples,
            self.clock if config.schedule.sequence_warmup else None,
            self.guard.state.left_out,
        )
        self.engine.phases.enter("data")
        try:
            for batch in train:
                step = self.progress.step + 1
                for callback in self.callbacks:
                    callback.on_step_start(self.run, step)
                lr = self.learning_rate(self.clock.tokens(batch.first_sample))
                result = self._step(batch, lr, step, train.waited_seconds)
                self.progress = replace(
                    self.progress,
                    step=step,
                    consumed_samples=train.consumed_samples,
                    skipped_steps=self._skipped_before + self.engine.skipped_steps,
                )
                if step % config.log.interval == 0 or self.batches.is_over(train.consumed_samples):
                    metrics = self._metrics(result, lr, batch, watch, train.waited_seconds)
                    for callback in self.callbacks:
                        callback.on_step(self.run, metrics)
                if config.integrity.interval and step % config.integrity.interval == 0:
                    compare_replicas(self.engine, step)
                with watch.paused():
                    if self._validation_is_due(batch):
                        self._validate()
                    if config.evaluation.task_interval and step % config.evaluation.task_interval == 0:
                        self._measure_tasks()
                    if self._checkpoint_is_due(step):
                        self._save()
                self._tell_of_checkpoint(self.checkpoints.poll())
                if why := self._must_leave(caught):
                    return why
        finally:
            train.close()
        if self.progress.step not in (self.run.start_step, self._validated):
            self._validate()
        return "done"

    def _must_leave(self, caught: list[int]) -> str | None:
        """Why the loop ends after this step, the same on all ranks."""
        phases = self.engine.phases
        phases.enter("wait")
        flags = bool(caught), self.checkpoints.failed(), self.deadline.step_is_done()
        stop, failed, late = self.context.any_rank(*flags)
        phases.enter("data")
        if failed:
            self.checkpoints.wait()  # raises on the ranks where it failed
            raise MegatronNlgError("another rank could not write its part of a checkpoint")
        if stop:
            self._event("signal", signal=signal.Signals(caught[0]).name if caught else "on another rank")
            return "signal"
        if late:
            self._event("time limit")
            return "time"
        return "roll back" if self.guard.must_roll_back(self.progress.step) else None

    # ---- parts of a step -----------------------------------------------------------------------------------------

    def _step(self, batch: Batch, lr: float, step: int, waited: float) -> StepResult:
        """The optimizer step, unless the guard objects; a skipped one is explained by an event."""
        for event in self.heartbeat.findings():
            self._event(**event)
        guard, micro_batches = self.guard, self._to_device(batch)
        objection = guard.objection if guard.judges_losses else None
        with (
            self.timeline.step(step, len(micro_batches), waited),
            self.statistics.step(step, batch.global_batch_size),
        ):
            result = self.engine.train_step(micro_batches, lr, step, objection)
        if result.skipped is None:
            if guard.judges_losses:
                guard.applied(float(result.loss))
            return result
        loss, norm, where = float(result.loss), float(result.grad_norm), {}
        if not (self.engine.searches_scale and math.isfinite(loss) and math.isinf(norm)):
            if not (math.isfinite(loss) and math.isnan(norm)) and not guard.is_suspect(step):  # the first in a row
                where = self._attribute(batch, micro_batches, step)
            guard.skipped(step, (batch.first_sample, batch.first_sample + batch.global_batch_size))
        self._event("skipped step", step=step, reason=result.skipped, **where)
        return result

    def _attribute(self, batch: Batch, micro_batches: list[dict[str, Tensor]], step: int) -> dict[str, Any]:
        """Parameter, rank and samples where a gradient that is not finite comes from."""
        found = first_non_finite(self.engine, micro_batches, step)
        if "rank" not in found:
            return found
        layout, micro = self.context.layout, self.config.batch.micro
        at = layout.coordinates(found["rank"]).data
        parts = micro_batch_samples(batch.first_sample, batch.global_batch_size, micro, at, layout.data)
        samples = parts[found["micro_batch"]]
        return found | {"samples": [samples.start, samples.stop]}

    def _roll_back(self) -> None:
        """Go back to the newest checkpoint before the first skipped step; samples of the skipped steps are left out.

        No checkpoint is written inside a suspect window but the one that a signal asks for, which is deleted here.
        """
        guard, at = self.guard, self.progress.step
        first, reason = guard.state.skips[0][0], f"{len(guard.state.skips)} steps were skipped from step "
        reason += f"{guard.state.skips[0][0]} to step {at}"
        if guard.state.rollbacks >= self.config.guard.max_rollbacks:
            raise NumericError(
                f"{reason}, after {guard.state.rollbacks} rollbacks (guard.max_rollbacks): training diverges; look at "
                f"events.jsonl in {self.folder}, and lower optimizer.lr or mend the data"
            )
        self._tell_of_checkpoint(self.checkpoints.wait())
        if self.context.is_main:
            for step in steps_in(self.checkpoints.folder):
                if step >= first:
                    folder = self.checkpoints.folder / f"step_{step:08d}"
                    shutil.rmtree(folder.rename(folder.with_name(f".{folder.name}.suspect")))
        self.context.barrier()
        loaded, damaged = self.checkpoints.load(self.engine, self._identity, self._check_identity)
        if not loaded.step:
            raise NumericError(
                f"{reason}, and there is no checkpoint before them: set checkpoint.interval below {first}"
            )
        guard.rolled_back(GuardState.from_json(loaded.guard))
        self.engine.restore_loss_scale(loaded.loss_scale)
        self.progress, self._last_save = replace(loaded, identity=self._identity), loaded.step
        self._skipped_before = loaded.skipped_steps - self.engine.skipped_steps
        self.statistics = Statistics(self.config.log, self.engine, self.context, self.folder, loaded.step)
        self._tell(lambda c: c.on_rollback(self.run, loaded.step))
        for problem in damaged:
            self._event("damaged checkpoint", problem=problem)
        self._event("rollback", reason=reason, left_out=[list(samples) for samples in guard.state.left_out])

    def _loader(
        self,
        dataset: Any,
        sizes: Any,
        consumed_samples: int = 0,
        clock: TokenClock | None = None,
        left_out: Sequence[tuple[int, int]] = (),
    ) -> Loader:
        return Loader(
            dataset,
            sizes,
            micro_batch=self.config.batch.micro,
            data_rank=self.context.at.data,
            data_size=self.context.layout.data,
            consumed_samples=consumed_samples,
            prefetch=self.config.data.prefetch,
            clock=clock,
            boundaries=Boundaries.of(self.config.data, self.datasets.eod),
            left_out=left_out,
            pinned=self.context.device.pins_memory,
            padded_length=dataset.padded_length if isinstance(dataset, Examples) else None,
        )

    def _to_device(self, batch: Batch) -> list[dict[str, Tensor]]:
        device = self.context.device.torch
        return [{key: value.to(device, non_blocking=True) for key, value in mb.items()} for mb in batch.micro_batches]

    def _metrics(self, result: StepResult, lr: float, batch: Batch, watch: Stopwatch, waited: float) -> StepMetrics:
        """Fetch a step's numbers from the device. `waited` is what the loader has waited so far, in seconds."""
        loss, grad_norm = float(result.loss), float(result.grad_norm)
        seconds, data_seconds = watch.lap(self.progress.step, waited)
        consumed, size = self.progress.consumed_samples, batch.global_batch_size
        tokens = self.clock.tokens(consumed) - self.clock.tokens(consumed - size)
        taken, length = batch.micro_batches[0]["tokens"].shape[1], None
        if self.config.schedule.sequence_warmup or self.config.classes:
            length = taken
        if self.config.classes:  # what goes through the model, and not what a text counts as
            tokens = size * taken
        tflops = self.throughput.model_tflops_per_gpu(tokens, seconds, length)
        return StepMetrics(
            step=self.progress.step,
            samples=consumed,
            tokens=self.clock.tokens(consumed),
            loss=loss,
            grad_norm=grad_norm,
            lr=lr,
            batch_size=size,
            step_seconds=seconds,
            tokens_per_second=tokens / seconds,
            model_tflops_per_gpu=tflops,
            mfu=self.throughput.mfu(tflops),
            data_seconds=data_seconds,
            sequence_length=length,
        )

    def _validation_is_due(self, batch: Batch) -> bool:
        """Whether to validate after this step: at an interval, and after every pass over labelled texts."""
        interval, train = self.config.evaluation.interval, self.datasets.train
        if interval and self.progress.step % interval == 0:
            return True
        if not isinstance(train, Examples):
            return False
        return batch.first_sample // len(train) != self.progress.consumed_samples // len(train)

    def _validate(self) -> None:
        """Mean loss per token on every source's validation split; of a classifier, its scores on all texts."""
        rows, self._validated = [], self.progress.step
        for source, dataset in self.datasets.valid.items():
            count, size = self.config.evaluation.batches, self.config.batch.global_
            if isinstance(dataset, Examples) and count:
                count = -(-len(dataset) // size)
            self.engine.phases.enter("validation")
            loader = self._loader(dataset, FixedBatches(size, count))
            batches = (self._to_device(batch) for batch in loader)
            if self.config.classes and count:
                scores = score(self.engine, batches)
                rows.append(ValidationRow(self.progress.step, source, perplexity=None, **asdict(scores)))
            elif not self.config.classes:
                losses = [float(self.engine.evaluate(batch)) for batch in batches]
                loss = math.fsum(losses) / len(losses)
                rows.append(ValidationRow(self.progress.step, source, loss, math.exp(min(loss, 700.0))))
            loader.close()
        self._tell(lambda c: c.on_validation(self.run, rows))

    def _measure_tasks(self) -> None:
        """Evaluation tasks on the model as it is."""
        if self.measure is None:
            return
        self.engine.phases.enter("validation")
        with self.engine.evaluating():
            rows = self.measure(self.config, self.context, self.engine.chunks, self.engine.phases.beat)
        for row in rows:
            self._event("task", **row)

    # ---- checkpoints and callbacks -------------------------------------------------------------------------------

    def _check_identity(self, saved: Progress, folder: Path, mend: str) -> None:
        """Refuse to go on with another model, or with other data unless data.accept_changed_blend says so."""
        check_identity(without_blend(saved.identity), without_blend(self._identity), folder, mend)
        changes = blend_changes(saved.identity, self._identity, saved.consumed_samples, self.clock)
        if changes and not self.config.data.accept_changed_blend:
            raise InputError(
                f"{folder}: the data have changed since this checkpoint: {'; '.join(changes)}; "
                f"{mend or 'set these back, or choose a new folder with --out'}, or go on with the new data after "
                f"sample {saved.consumed_samples:,} by data.accept_changed_blend=true"
            )
        self._blend_changes = changes

    def _checkpoint_is_due(self, step: int) -> bool:
        """Whether to save; where the interval ends in a suspect window, as soon as that is over."""
        interval = self.config.checkpoint.interval
        if not interval or self.guard.is_suspect(step):
            return False
        return step - step % interval > self._last_save

    def _save(self) -> None:
        self.engine.phases.enter("checkpoint")
        scale, guard = self.engine.loss_scale_state(), self.guard.state.to_json()
        self._last_save = self.progress.step
        progress = replace(self.progress, loss_scale=scale, guard=guard)
        self._tell_of_checkpoint(self.checkpoints.save(self.engine, progress))
        self.deadline.save_begins()

    def _save_now(self) -> None:
        """Leave nothing unsaved."""
        self.engine.phases.enter("checkpoint")
        done = self.checkpoints.wait()
        self._tell_of_checkpoint(done)
        if self.progress.step != self.run.start_step and (done is None or done.step != self.progress.step):
            self._save()
            self._tell_of_checkpoint(self.checkpoints.wait())

    def _tell_of_checkpoint(self, done: Saved | None) -> None:
        if done is not None:
            self.deadline.save_is_done()
            saved = done
            self._tell(lambda c: c.on_checkpoint(self.run, saved.step, saved.path))
            self._event("checkpoint cost", **{"step": saved.step, **saved.cost()})

    def _event(self, event: str, **details: Any) -> None:
        about: Mapping[str, Any] = {"event": event, "step": self.progress.step, **details}
        self._tell(lambda c: c.on_event(self.run, about))

    def _tell(self, hook: Callable[[Callback], None]) -> None:
        for callback in self.callbacks:
            hook(callback)

    def close(self) -> None:
        """Leave together: threads, DeepSpeed, process groups."""
        self.checkpoints.close()
        self.engine.destroy()
        self.context.barrier()
        self.context.destroy()


class Stopwatch:
    """Wall time of steps, without what they are paused for."""

    def __init__(self, step: int):
        self._since, self._step, self._waited = time.perf_counter(), step, 0.0

    def lap(self, step: int, waited: float = 0.0) -> tuple[float, float]:
        """Mean seconds of a step since the last lap, and of its share of `waited`, a sum that only grows."""
        now, steps = time.perf_counter(), step - self._step
        means = (now - self._since) / steps, (waited - self._waited) / steps
        self._since, self._step, self._waited = now, step, waited
        return means

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time that does not count."""
        before = time.perf_counter()
        yield
        self._since += time.perf_counter() - before


@contextmanager
def caught_signals() -> Iterator[list[int]]:
    """Signals that ask to save and leave, as they arrive on this rank; the old handlers come back afterwards.

    After a failure they stay caught: a supervisor that ends the job must not cut the report of its cause short.
    """
    caught: list[int] = []
    old = {number: signal.signal(number, lambda got, frame: caught.append(got)) for number in STOP_SIGNALS}
    yield caught
    for number, handler in old.items():
        signal.signal(number, handler)


def choose_callbacks(config: RunConfig, terminal: IO[str] | None = None) -> list[Callback]:
    """What watches a run, in the order it is told. `terminal` is where progress goes; stderr when not given."""
    console = LogConsole(file=terminal, highlight=False, soft_wrap=True) if terminal else None
    callbacks: list[Callback] = [MetricsFile(), ProgressLine(console)]
    if config.log.tensorboard:
        callbacks.append(TensorBoard())
    if config.log.wandb:
        callbacks.append(WandB())
    return [*callbacks, Profiler(), MemorySnapshot(), Traffic()]
