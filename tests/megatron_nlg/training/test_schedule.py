"""Learning rate and batch size: values at the corners, and properties over random schedules."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from megatron_nlg.config.base import build, merge
from megatron_nlg.config.errors import ConfigError
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.training.schedule import BatchSchedule, FixedBatches, LearningRate


def config(**sections: Any) -> RunConfig:
    tree = {
        "model": {
            "num_layers": 4,
            "hidden_size": 32,
            "num_attention_heads": 4,
            "sequence_length": 64,
            "vocab_size": 500,
        },
        "batch": {"global": 16},
        "optimizer": {"lr": 1e-3},
        "schedule": {"train_tokens": 1_000_000},
    }
    return build(RunConfig, merge(tree, sections), "test")


def rate(**schedule: Any) -> LearningRate:
    return LearningRate(config(schedule=schedule))


def test_warmup_is_linear_from_zero_to_the_peak() -> None:
    lr = rate(warmup_tokens=1000)
    assert [lr(t) for t in (0, 250, 500, 1000)] == [0, 2.5e-4, 5e-4, 1e-3]


def test_no_warmup_starts_at_the_peak() -> None:
    assert rate()(0) == 1e-3


def test_cosine() -> None:
    lr = rate(warmup_tokens=100_000, min_lr_ratio=0.1)
    middle = (100_000 + 1_000_000) // 2
    quarter = 100_000 + 900_000 // 4
    assert lr(middle) == pytest.approx((1e-3 + 1e-4) / 2)
    assert lr(quarter) == pytest.approx(1e-4 + 9e-4 * (0.5 + math.sqrt(2) / 4))
    assert lr(1_000_000) == lr(5_000_000) == pytest.approx(1e-4)


def test_linear_and_its_own_decay_length() -> None:
    lr = rate(decay="linear", decay_tokens=400_000, min_lr_ratio=0.0)
    assert lr(100_000) == pytest.approx(7.5e-4)
    assert lr(400_000) == 0


def test_constant_never_falls() -> None:
    lr = rate(decay="constant", warmup_tokens=10)
    assert lr(10) == lr(999_999) == lr(9_000_000) == 1e-3


def test_wsd_holds_then_falls_linearly() -> None:
    lr = rate(decay="wsd", wsd_fraction=0.2, warmup_tokens=1000, min_lr_ratio=0.5)
    assert lr(1000) == lr(500_000) == lr(800_000) == 1e-3
    assert lr(900_000) == pytest.approx(7.5e-4)
    assert lr(1_000_000) == pytest.approx(5e-4)


def test_wsd_that_would_fall_during_the_warmup_waits_for_its_end() -> None:
    lr = rate(decay="wsd", wsd_fraction=1.0, warmup_tokens=500_000, min_lr_ratio=0.0)
    assert lr(500_000) == 1e-3
    assert lr(750_000) == pytest.approx(5e-4)


def test_mt_nlg_recipe() -> None:
    """Peak 5e-5, warm-up over 1e9 tokens, cosine to 10 % over 340e9, stopped at 270e9 (MT-NLG, section 3.2)."""
    lr = LearningRate(
        config(
            optimizer={"lr": 5e-5},
            schedule={"train_tokens": 270e9, "warmup_tokens": 1e9, "decay_tokens": 340e9, "decay": "cosine"},
        )
    )
    assert lr(10**9) == 5e-5
    expected = 5e-6 + 4.5e-5 * 0.5 * (1 + math.cos(math.pi * 269 / 339))
    assert lr(270 * 10**9) == pytest.approx(expected)
    assert lr(340 * 10**9) == pytest.approx(5e-6)


@given(
    decay=st.sampled_from(["constant", "linear", "cosine", "wsd"]),
    warmup=st.integers(0, 1000),
    extra=st.integers(0, 5000),
    ratio=st.floats(0, 1),
    fraction=st.floats(0.01, 1),
    tokens=st.integers(0, 8000),
)
def test_rate_stays_between_its_bounds_and_never_rises_after_warmup(
    *, decay: str, warmup: int, extra: int, ratio: float, fraction: float, tokens: int
) -> None:
    assume(warmup + extra > 0)
    lr = rate(decay=decay, warmup_tokens=warmup, decay_tokens=warmup + extra, min_lr_ratio=ratio, wsd_fraction=fraction)
    assert 0 <= lr(tokens) <= 1e-3 * (1 + 1e-12)
    if tokens >= warmup:
        assert lr(tokens) >= 1e-3 * ratio * (1 - 1e-12)
        assert lr(tokens + 1) <= lr(tokens) * (1 + 1e-12)
    else:
        assert lr(tokens + 1) > lr(tokens) or tokens + 1 == warmup


# Batch sizes


def walk(schedule: BatchSchedule) -> list[int]:
    sizes, consumed = [], 0
    while not schedule.is_over(consumed):
        sizes.append(schedule.global_batch_size(consumed))
        consumed += sizes[-1]
    return sizes


def test_without_a_ramp_the_last_step_is_full() -> None:
    schedule = BatchSchedule(config(batch={"global": 16, "micro": 2}, schedule={"train_tokens": 64 * 100 + 1}), 4)
    assert schedule.train_samples == 101
    assert walk(schedule) == [16] * 7
    assert schedule.total_steps == 7
    assert schedule.micro_batches(0) == 2


def test_level_k_holds_over_the_kth_share_of_the_ramp() -> None:
    """Megatron's rule: 3 increments over 48 samples, so a level lasts until 16, 32, 48 samples are consumed."""
    ramp = {"start": 4, "increment": 4, "tokens": 48 * 64}
    schedule = BatchSchedule(config(batch={"global": 16, "ramp": ramp}, schedule={"train_tokens": 80 * 64}), 2)
    at = {s: schedule.global_batch_size(s) for s in (0, 15, 16, 31, 32, 47, 48, 1000)}
    assert at == {0: 4, 15: 4, 16: 8, 31: 8, 32: 12, 47: 12, 48: 16, 1000: 16}
    assert walk(schedule) == [4, 4, 4, 4, 8, 8, 12, 12, 16, 16]
    assert schedule.total_steps == 10
    assert [schedule.micro_batches(s) for s in (0, 16, 32, 48)] == [2, 4, 6, 8]


def test_levels_are_rounded_up_to_what_the_ranks_can_share() -> None:
    ramp = {"start": 4, "increment": 4, "tokens": 4800, "rounding": "up"}
    schedule = BatchSchedule(config(batch={"global": 24, "micro": 2, "ramp": ramp}), 3)
    assert schedule.levels == [6, 12, 12, 18, 24, 24]


def test_levels_that_do_not_divide_are_refused_when_not_rounded() -> None:
    ramp = {"start": 4, "increment": 4, "tokens": 4800}
    with pytest.raises(ConfigError, match=r"batch\.ramp: levels 4, 8, 16, 20 are not multiples .*rounding to up"):
        BatchSchedule(config(batch={"global": 24, "micro": 2, "ramp": ramp}), 3)


def test_interleaving_needs_multiples_of_the_pipeline() -> None:
    parallel = {"pipeline": 2, "interleave": 2}
    ramp = {"start": 1, "increment": 1, "tokens": 640, "rounding": "up"}
    schedule = BatchSchedule(config(parallel=parallel, batch={"global": 4, "ramp": ramp}), 1)
    assert schedule.levels == [2, 2, 4, 4]


def test_a_ramp_that_starts_at_the_full_batch_is_none() -> None:
    ramp = {"start": 16, "increment": 4, "tokens": 4800}
    assert set(walk(BatchSchedule(config(batch={"global": 16, "ramp": ramp}), 2))) == {16}


def test_mt_nlg_ramp() -> None:
    """32 to 1920 by 32 over 12e9 tokens (MT-NLG, section 3.2), on 12 replicas, which divide few of the levels."""
    ramp = {"start": 32, "increment": 32, "tokens": 12e9, "rounding": "up"}
    tree = {"model": {"sequence_length": 2048}, "batch": {"global": 1920, "ramp": ramp}}
    schedule = BatchSchedule(config(**tree, schedule={"train_tokens": 270e9}), 12)
    assert len(schedule.levels) == 60
    assert schedule.levels[:4] == [36, 72, 96, 132]
    first_full = -(-(12 * 10**9) // 2048)
    assert schedule.global_batch_size(first_full) == 1920
    assert schedule.global_batch_size(first_full - 1) == schedule.levels[58] == 1896
    assert schedule.total_steps == len(walk(schedule))


@given(
    start=st.integers(1, 6),
    increment=st.integers(1, 5),
    increments=st.integers(0, 6),
    micro=st.integers(1, 3),
    data=st.integers(1, 4),
    ramp_tokens=st.integers(1, 20_000),
    train_tokens=st.integers(1, 40_000),
    sequence=st.sampled_from([1, 7, 64]),
)
def test_counting_levels_equals_walking_steps(
    *,
    start: int,
    increment: int,
    increments: int,
    micro: int,
    data: int,
    ramp_tokens: int,
    train_tokens: int,
    sequence: int,
) -> None:
    full = start + increment * increments
    assume(full % (micro * data) == 0)
    ramp = {"start": start, "increment": increment, "tokens": ramp_tokens, "rounding": "up"}
    schedule = BatchSchedule(
        config(
            model={"sequence_length": sequence},
            batch={"global": full, "micro": micro, "ramp": ramp},
            schedule={"train_tokens": train_tokens},
        ),
        data,
    )
    sizes = walk(schedule)
    assert schedule.total_steps == len(sizes)
    assert sizes == sorted(sizes)
    assert all(size % (micro * data) == 0 and size <= full for size in sizes)
    assert sum(sizes[:-1]) < schedule.train_samples <= sum(sizes)


def test_fixed_batches() -> None:
    batches = FixedBatches(8, 3)
    assert [batches.is_over(n) for n in (0, 16, 24)] == [False, False, True]
    assert batches.global_batch_size(8) == 8
