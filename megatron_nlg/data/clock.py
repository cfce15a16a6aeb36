"""How many tokens the first n samples are: the clock that schedules, stages and metrics go by. No torch, no state."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from megatron_nlg.config.schema import RunConfig, SequenceWarmup


@dataclass(frozen=True)
class Level:
    """Samples of one length, up to the next level's first."""

    first_sample: int
    first_token: int
    """Tokens of all samples before."""
    length: int
    """Tokens of each of its samples."""


class TokenClock:
    """Samples to tokens and back, as pure functions, also while schedule.sequence_warmup cuts samples short.

    Every length of the warm-up holds until its equal share of the warm-up's tokens is used up. The length belongs to
    the sample and not to the step: a step that reaches over two levels masks what is beyond each sample's own length,
    so that the count depends neither on the batch sizes nor on the layout.
    """

    def __init__(self, sequence_length: int, warmup: SequenceWarmup | None = None):
        whole = sequence_length
        lengths = list(range(warmup.start, whole, warmup.multiple)) if warmup else []
        levels = [Level(0, 0, lengths[0] if lengths else whole)]
        for number in range(1, len(lengths) + 1):
            last = levels[-1]
            assert warmup
            end = -(-number * warmup.tokens // len(lengths))  # in tokens, rounded up
            samples = max(0, -(-(end - last.first_token) // last.length))
            length = lengths[number] if number < len(lengths) else whole
            levels.append(Level(last.first_sample + samples, last.first_token + samples * last.length, length))
        self.levels = levels

    @classmethod
    def of(cls, config: RunConfig) -> TokenClock:
        """The clock of a run."""
        return cls(config.sample_length, config.schedule.sequence_warmup)

    def length(self, sample: int) -> int:
        """Tokens that are kept of sample `sample`, counted from 0."""
        return self._level(sample).length

    def tokens(self, samples: int) -> int:
        """Tokens of the first `samples` samples."""
        level = self._level(samples)
        return level.first_token + (samples - level.first_sample) * level.length

    def samples(self, tokens: int) -> int:
        """The smallest number of samples with at least `tokens` tokens."""
        if tokens <= 0:
            return 0
        # The last level that begins before that many tokens.
        number = bisect_right(self.levels, tokens - 1, key=lambda level: level.first_token) - 1
        level = self.levels[number]
        return level.first_sample - (-(tokens - level.first_token) // level.length)

    def _level(self, sample: int) -> Level:
        return self.levels[bisect_right(self.levels, sample, key=lambda level: level.first_sample) - 1]
