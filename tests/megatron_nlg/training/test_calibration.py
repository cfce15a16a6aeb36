"""The measurements run, and are of the order that any machine has."""

import pytest

from megatron_nlg.parallel.device import select_device
from megatron_nlg.training import calibration


def slow() -> None:
    sum(range(200_000))


def fail() -> None:
    raise ValueError("no such thing")


def test_seconds_of_a_call() -> None:
    device = select_device()
    once, twice = (calibration.seconds_of(lambda n=n: [slow() for _ in range(n)], device, 0.05) for n in (1, 4))
    assert 2 < twice / once < 8


def test_what_a_rank_raises_is_raised() -> None:
    with pytest.raises(RuntimeError, match="rank 0: ValueError: no such thing"):
        calibration.run_ranks(2, fail)


def test_collectives_between_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "BYTES", {"cpu": (1 << 12,)})
    rows = calibration.run_ranks(2, calibration.collectives)[0]
    assert [row[:3] for row in rows] == [
        [name, 2, 4096] for name in ("all_reduce", "all_gather", "reduce_scatter", "send")
    ]
    assert all(0 < work <= until_all < 1 for *_, work, until_all in rows)


def test_layers_of_ranks_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "cores", lambda: 20)
    assert calibration.crowds() == [1, 20, 40]
    seconds = calibration.run_ranks(2, calibration.crowded, 0.1)
    assert all(1e-4 < one < 10 for one in seconds)
