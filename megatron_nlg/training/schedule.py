"""Learning rate and global batch size as pure functions of what has been consumed. No torch, no state.

Neither depends on the step number, so a run that stops and goes on, or goes on with another number of ranks, asks
the same questions and gets the same answers.
"""

from __future__ import annotations

import math

from megatron_nlg.config.errors import ConfigError
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.config.validate import batch_problems, batch_quantum, ramp_levels
from megatron_nlg.data.clock import TokenClock


class LearningRate:
    """Learning rate at a number of consumed tokens: linear warm-up from 0, then constant, linear, cosine or WSD."""

    def __init__(self, config: RunConfig):
        schedule = config.schedule
        self.peak = config.optimizer.lr
        self.floor = self.peak * schedule.min_lr_ratio
        self.warmup_tokens = schedule.warmup_tokens
        self.decay = schedule.decay
        self.decay_tokens = schedule.decay_tokens or schedule.train_tokens
        self.wsd_tokens = schedule.wsd_fraction * self.decay_tokens

    def __call__(self, consumed_tokens: int) -> float:
        """Learning rate after `consumed_tokens` tokens: 0 at 0 when there is a warm-up, its peak where that ends."""
        if consumed_tokens < self.warmup_tokens:
            return self.peak * consumed_tokens / self.warmup_tokens
        if self.decay == "constant":
            return self.peak
        if consumed_tokens >= self.decay_tokens:
            return self.floor
        return self.floor + (self.peak - self.floor) * self._height(consumed_tokens)

    def _height(self, consumed_tokens: int) -> float:
        """Share of the way from the floor to the peak, between warm-up and the end of the decay."""
        start = self.warmup_tokens
        if self.decay == "wsd":
            start = max(start, math.ceil(self.decay_tokens - self.wsd_tokens))
        if consumed_tokens <= start:
            return 1.0
        done = (consumed_tokens - start) / (self.decay_tokens - start)
        return 0.5 * (1 + math.cos(math.pi * done)) if self.decay == "cosine" else 1 - done


class BatchSchedule:
    """Global batch size at a number of consumed samples, and what follows from it.

    Level k of a ramp holds while the consumed tokens are in [k, k + 1) × ramp.tokens / increments, where increments
    is the number of levels below the full batch (Megatron's rule). Sample i is the same sample for every data-parallel
    size; only where one batch ends and the next begins may depend on it, and only with `batch.ramp.rounding: up`.
    """

    def __init__(self, config: RunConfig, data_parallel: int):
        """Raises ConfigError when a batch can't be cut into micro-batches for `data_parallel` replicas."""
        problems = list(batch_problems(config, data_parallel))
        if problems:
            raise ConfigError(problems, f"batches of data-parallel size {data_parallel}")
        quantum = batch_quantum(config, data_parallel)
        self.levels = [-(-level // quantum) * quantum for level in ramp_levels(config)]
        self._clock = TokenClock.of(config)
        self.train_samples = self._clock.samples(config.schedule.train_tokens)
        self._samples_per_micro_batch = config.batch.micro * data_parallel
        self._ramp_tokens = config.batch.ramp.tokens if config.batch.ramp else 0

    def global_batch_size(self, consumed_samples: int) -> int:
        """Sequences in the step that starts when `consumed_samples` sequences have been consumed."""
        increments = len(self.levels) - 1
        consumed_tokens = self._clock.tokens(consumed_samples)
        if increments == 0 or consumed_tokens >= self._ramp_tokens:
            return self.levels[-1]
        return self.levels[consumed_tokens * increments // self._ramp_tokens]

    def micro_batches(self, consumed_samples: int) -> int:
        """Micro-batches that each replica takes in that step."""
        return self.global_batch_size(consumed_samples) // self._samples_per_micro_batch

    def is_over(self, consumed_samples: int) -> bool:
        """Whether training ends here. The last step takes a full batch, so it may end a little late."""
        return consumed_samples >= self.train_samples

    @property
    def total_steps(self) -> int:
        """Steps from the first sample to the end of training."""
        return self.steps_until(self.train_samples)

    def steps_until(self, samples: int) -> int:
        """Steps until at least `samples` samples are consumed."""
        return sum(steps for _, steps in self.steps_by_level(samples))

    def steps_by_level(self, samples: int) -> list[tuple[int, int]]:
        """(global batch size, steps) of every level until then. Counts level by level, not step by step."""
        increments, consumed, counts = len(self.levels) - 1, 0, []
        for k, size in enumerate(self.levels):
            end = samples
            if k < increments:  # the first sample that belongs to level k + 1
                end = min(samples, self._clock.samples(-(-(k + 1) * self._ramp_tokens // increments)))
            here = max(0, -(-(end - consumed) // size))
            counts.append((size, here))
            consumed += here * size
        return counts


class FixedBatches:
    """`count` global batches of one size: what a validation set is read in. Same questions as BatchSchedule."""

    def __init__(self, global_batch_size: int, count: int):
        self.size, self.count = global_batch_size, count

    def global_batch_size(self, consumed_samples: int) -> int:
        """Sequences in every batch."""
        return self.size

    def is_over(self, consumed_samples: int) -> bool:
        """Whether all batches have been read."""
        return consumed_samples >= self.size * self.count
