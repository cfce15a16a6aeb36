"""The training loop, to be read in one sitting: set up, then step after step until the tokens are used up.

The optimizer step itself is `Engine.train_step` in engine.py.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from torch import Tensor

from megatron_nlg.config.dump import to_yaml
from megatron_nlg.config.errors import InputError, MegatronNlgError
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.data.clock import TokenClock
from megatron_nlg.data.datasets import build_datasets
from megatron_nlg.data.documents import Boundaries
from megatron_nlg.data.identity import blend_changes, without_blend
from megatron_nlg.data.loader import Batch, Loader
from megatron_nlg.parallel.context import ParallelContext
from megatron_nlg.parallel.supervisor import STOP_SIGNALS
from megatron_nlg.training.callbacks.base import Callback, Run, StepMetrics, ValidationRow
from megatron_nlg.training.callbacks.metrics import MetricsFile, replace_text
from megatron_nlg.training.callbacks.profiler import MemorySnapshot, Profiler
from megatron_nlg.training.callbacks.progress import LogConsole, ProgressLine
from megatron_nlg.training.callbacks.tensorboard import TensorBoard
from megatron_nlg.training.callbacks.wandb import WandB
from megatron_nlg.training.checkpoint.format import Progress, check_identity, model_identity
from megatron_nlg.training.checkpoint.store import Checkpoints, Saved
from megatron_nlg.training.engine import Engine, StepResult
from megatron_nlg.training.schedule import BatchSchedule, FixedBatches, LearningRate
from megatron_nlg.training.statistics import Statistics
from megatron_nlg.training.throughput import Throughput
from megatron_nlg.training.timeline import Timeline


class Trainer:
    """A run: its engine, data, checkpoints and callbacks. All ranks make one and call `train` together."""

    def __init__(self, config: RunConfig, folder: Path, terminal: IO[str] | None = None):
        self.config, self.folder = config, folder
        self.context = context = ParallelContext.create(config)
        self.datasets = build_datasets(config, folder)
        self.engine = Engine(config, context)
        self.learning_rate = LearningRate(config)
        self.clock = TokenClock.of(config)
        self.batches = BatchSchedule(config, context.layout.data)
        self.throughput = Throughput(config, context.layout.world_size, context.device.name)
        self.checkpoints = Checkpoints(folder / "checkpoints", config.checkpoint, context)
        self._identity = model_identity(config) | self.datasets.plan.identity
        self._blend_changes: list[str] = []
        loaded, self._damaged = self.checkpoints.load(self.engine, self._identity, self._check_identity)
        self.progress = replace(loaded, identity=self._identity)
        self.engine.restore_loss_scale(self.progress.loss_scale)
        self._skipped_before = self.progress.skipped_steps
        steps_done = self.batches.steps_until(self.progress.consumed_samples)
        self.timeline = Timeline(config.log.timeline_steps, self.engine, context, folder)
        self.statistics = Statistics(config.log, self.engine, context, folder, self.progress.step)
        self.callbacks = choose_callbacks(config, terminal)
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
        """Train until the tokens are used up ("done") or a signal asks to stop ("signal"); the state is saved."""
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
                self._event("weights loaded", path=str(self.checkpoints.loaded_from))
            self._event("kernels", **self.engine.kernels.active)
            with caught_signals() as caught:
                status = self._loop(caught)
                self.timeline.finish()
                self._save_now()
            self._event("peak memory", mib=self.context.gather(self.context.device.peak_memory_bytes() >> 20))
        finally:
            self._tell(lambda c: c.on_end(self.run, self.progress.step, status))
        return status

    def _loop(self, caught: list[int]) -> str:
        """Steps until the end or a signal."""
        config, watch = self.config, Stopwatch(self.progress.step)
        cut = self.clock if config.schedule.sequence_warmup else None
        train = self._loader(self.datasets.train, self.batches, self.progress.consumed_samples, cut)
        try:
            for batch in train:
                step = self.progress.step + 1
                for callback in self.callbacks:
                    callback.on_step_start(self.run, step)
                lr = self.learning_rate(self.clock.tokens(self.progress.consumed_samples))
                with (
                    self.timeline.step(step, len(batch.micro_batches), train.waited_seconds),
                    self.statistics.step(step, batch.global_batch_size),
                ):
                    result = self.engine.train_step(self._to_device(batch), lr, step)
                self.progress = replace(
                    self.progress,
                    step=step,
                    consumed_samples=train.consumed_samples,
                    skipped_steps=self._note_skips(),
                )
                if step % config.log.interval == 0 or self.batches.is_over(train.consumed_samples):
                    metrics = self._metrics(result, lr, batch, watch, train.waited_seconds)
                    for callback in self.callbacks:
                        callback.on_step(self.run, metrics)
                with watch.paused():
                    if config.evaluation.interval and step % config.evaluation.interval == 0:
                        self._validate()
                    if config.checkpoint.interval and step % config.checkpoint.interval == 0:
                        self._save()
                self._tell_of_checkpoint(self.checkpoints.poll())
                stop, failed = self.context.any_rank(bool(caught), self.checkpoints.failed())
                if failed:
                    self.checkpoints.wait()  # raises on the ranks where it failed
                    raise MegatronNlgError("another rank could not write its part of a checkpoint")
                if stop:
                    self._event("signal", signal=signal.Signals(caught[0]).name if caught else "on another rank")
                    return "signal"
        finally:
            train.close()
        evaluated = config.evaluation.interval and self.progress.step % config.evaluation.interval == 0
        if self.progress.step != self.run.start_step and not evaluated:
            self._validate()
        return "done"

    # ---- parts of a step -----------------------------------------------------------------------------------------

    def _loader(self, dataset: Any, sizes: Any, consumed_samples: int = 0, clock: TokenClock | None = None) -> Loader:
        return Loader(
            dataset,
            sizes,
            micro_batch=self.config.batch.micro,
            data_rank=self.context.at.data,
            data_size=self.context.layout.data,
            consumed_samples=consumed_samples,
            prefetch=self.config.data.prefetch,
            clock=clock,
            boundaries=Boundaries.of(self.config.data, self.datasets.plan.tokenizer.eod),
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
        length = batch.micro_batches[0]["tokens"].shape[1] if self.config.schedule.sequence_warmup else None
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

    def _note_skips(self) -> int:
        """Skipped steps so far, over all processes of the run; a new one becomes an event."""
        before = self.progress.skipped_steps
        now = self._skipped_before + self.engine.skipped_steps
        if now > before:
            self._event("skipped step", reason="the gradient is not finite")
        return now

    def _validate(self) -> None:
        """Mean loss per token on every source's validation split."""
        count, size = self.config.evaluation.batches, self.config.batch.global_
        rows = []
        for source, dataset in self.datasets.valid.items():
            loader = self._loader(dataset, FixedBatches(size, count))
            losses = [float(self.engine.evaluate(self._to_device(batch))) for batch in loader]
            loader.close()
            loss = math.fsum(losses) / len(losses)
            rows.append(ValidationRow(self.progress.step, source, loss, math.exp(min(loss, 700.0))))
        self._tell(lambda c: c.on_validation(self.run, rows))

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

    def _save(self) -> None:
        self.progress = replace(self.progress, loss_scale=self.engine.loss_scale_state())
        self._tell_of_checkpoint(self.checkpoints.save(self.engine, self.progress))

    def _save_now(self) -> None:
        """Leave nothing unsaved."""
        done = self.checkpoints.wait()
        self._tell_of_checkpoint(done)
        if self.progress.step != self.run.start_step and (done is None or done.step != self.progress.step):
            self._save()
            self._tell_of_checkpoint(self.checkpoints.wait())

    def _tell_of_checkpoint(self, done: Saved | None) -> None:
        if done is not None:
            saved = done
            self._tell(lambda c: c.on_checkpoint(self.run, saved.step, saved.path))
            self._event("checkpoint cost", **{"step": saved.step, **saved.cost()})

    def _event(self, name: str, **details: Any) -> None:
        event: Mapping[str, Any] = {"event": name, "step": self.progress.step, **details}
        self._tell(lambda c: c.on_event(self.run, event))

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
    return [*callbacks, Profiler(), MemorySnapshot()]
