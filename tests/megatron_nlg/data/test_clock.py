"""Tokens of the first n samples, there and back, with and without a sequence warm-up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.data.clock import TokenClock
from tests.tiny import tiny

WARMUP = "schedule.sequence_warmup={start: 8, multiple: 8, tokens: 900}"


def test_without_a_warmup_every_sample_is_whole() -> None:
    clock = TokenClock.of(tiny())
    assert (clock.length(0), clock.tokens(7), clock.samples(7 * 32), clock.samples(7 * 32 + 1)) == (32, 224, 7, 8)


def test_every_length_takes_its_share_of_the_tokens() -> None:
    clock = TokenClock.of(tiny(WARMUP))
    assert [level.length for level in clock.levels] == [8, 16, 24, 32]
    # 300 tokens each, rounded up to whole samples: 38 × 8 = 304, then 19 × 16 to pass 600, then 13 × 24 to pass 900
    assert [level.first_sample for level in clock.levels] == [0, 38, 57, 70]
    assert clock.tokens(70) == 304 + 304 + 13 * 24
    assert clock.tokens(71) - clock.tokens(70) == 32


@given(
    start=st.integers(1, 31),
    multiple=st.integers(1, 40),
    tokens=st.integers(1, 5000),
    samples=st.integers(0, 600),
    asked=st.integers(0, 9000),
)
def test_tokens_are_the_sum_of_lengths_and_samples_undo_it(
    start: int, multiple: int, tokens: int, samples: int, asked: int
) -> None:
    clock = TokenClock.of(tiny(f"schedule.sequence_warmup={{start: {start}, multiple: {multiple}, tokens: {tokens}}}"))
    lengths = [clock.length(i) for i in range(samples)]
    assert lengths == sorted(lengths)
    assert clock.tokens(samples) == sum(lengths)
    assert clock.samples(clock.tokens(samples)) == samples
    needed = clock.samples(asked)
    assert clock.tokens(needed) >= asked
    assert needed == 0 or clock.tokens(needed - 1) < asked
    assert clock.length(clock.samples(tokens) + 1) == 32
