"""Order, resume, prefetching, errors and exit."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from megatron_nlg.data.clock import TokenClock
from megatron_nlg.data.loader import Batch, Loader
from megatron_nlg.training.schedule import BatchSchedule, FixedBatches
from tests.tiny import tiny

RAMP = ("batch.ramp={start: 4, increment: 4, tokens: 2048}", "batch.global=16", "schedule.train_tokens=5120")


class Numbers:
    """Sample i is i everywhere; notes who read it, and fails where it is told to."""

    def __init__(self, broken: int | None = None):
        self.broken = broken
        self.threads: set[str] = set()
        self.read: list[int] = []

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if index == self.broken:
            raise OSError(f"sample {index} can't be read")
        self.threads.add(threading.current_thread().name)
        self.read.append(index)
        whole = torch.full((5,), index)
        return {"tokens": whole, "labels": whole + 1, "loss_mask": torch.ones(5), "position_ids": torch.arange(5)}


def test_samples_that_are_left_out_are_consumed_and_never_read() -> None:
    numbers = Numbers()
    loader = Loader(
        numbers, FixedBatches(4, 6), micro_batch=2, data_rank=0, data_size=1, consumed_samples=4, left_out=[(8, 16)]
    )
    seen = [(batch.first_sample, samples(batch), loader.consumed_samples) for batch in loader]
    assert seen == [(4, [4, 5, 6, 7], 8), (16, [16, 17, 18, 19], 20), (20, [20, 21, 22, 23], 24)]
    loader.close()
    assert not set(numbers.read) & set(range(8, 16))


@pytest.mark.parametrize("pinned", [True, False])
def test_batches_are_pinned_by_the_thread(monkeypatch: pytest.MonkeyPatch, pinned: bool) -> None:
    """On machines without a GPU nothing can be pinned: a stand-in notes who asked for what."""
    asked: list[tuple[str, tuple[int, ...]]] = []

    def pin_memory(tensor: Tensor) -> Tensor:
        asked.append((threading.current_thread().name.split("_")[0], tuple(tensor.shape)))
        return tensor.clone()

    monkeypatch.setattr(Tensor, "pin_memory", pin_memory)
    one = Loader(Numbers(), FixedBatches(4, 1), micro_batch=2, data_rank=0, data_size=1, pinned=pinned)
    assert samples(one.next()) == [0, 1, 2, 3]
    one.close()
    assert asked == [("loader", (2, 5))] * 6 * pinned


def samples(batch: Batch) -> list[int]:
    return [int(row[0]) for micro in batch.micro_batches for row in micro["tokens"]]


def loader(dataset: Numbers, data: int = 1, rank: int = 0, consumed: int = 0, micro: int = 2) -> Loader:
    schedule = BatchSchedule(tiny(f"batch.micro={micro}", *RAMP), data)
    return Loader(dataset, schedule, micro_batch=micro, data_rank=rank, data_size=data, consumed_samples=consumed)


def test_batches_hold_tokens_labels_and_mask_by_micro_batch() -> None:
    first = loader(Numbers()).next()
    assert first.global_batch_size == 4
    assert [{k: tuple(v.shape) for k, v in m.items()} for m in first.micro_batches] == [
        {"tokens": (2, 5), "labels": (2, 5), "loss_mask": (2, 5)}
    ] * 2
    assert samples(first) == [0, 1, 2, 3]
    assert first.micro_batches[1]["labels"][0, 0] == 3


def test_sizes_follow_the_ramp_and_order_is_that_of_the_samples() -> None:
    batches = list(loader(Numbers()))
    sizes = [batch.global_batch_size for batch in batches]
    assert sizes == sorted(sizes)
    assert set(sizes) == {4, 8, 12, 16}
    assert [s for batch in batches for s in samples(batch)] == list(range(sum(sizes)))


@pytest.mark.parametrize("data", [1, 2])
def test_ranks_together_take_the_same_samples(data: int) -> None:
    ranks = [list(loader(Numbers(), data, rank, micro=1)) for rank in range(data)]
    seen = [s for step in zip(*ranks, strict=True) for batch in step for s in samples(batch)]
    assert seen == list(range(len(seen)))


def test_resume_continues_the_same_sequence() -> None:
    whole = [samples(batch) for batch in loader(Numbers())]
    first = loader(Numbers())
    for _ in range(3):
        first.next()
    again = [samples(batch) for batch in loader(Numbers(), consumed=first.consumed_samples)]
    assert again == whole[3:]


def test_consumed_samples_counts_what_was_handed_out_and_not_what_was_prefetched() -> None:
    one = loader(Numbers())
    assert one.consumed_samples == 0
    one.next()
    assert one.consumed_samples == 4
    one.close()


def test_the_next_batch_is_prepared_in_the_background() -> None:
    dataset = Numbers()
    one = loader(dataset)
    one.next()
    end = time.monotonic() + 10
    while len(dataset.read) < 8 and time.monotonic() < end:
        time.sleep(0.001)
    assert dataset.read == list(range(8))
    assert threading.current_thread().name not in dataset.threads
    one.close()


def test_the_end_is_the_end() -> None:
    one = Loader(Numbers(), FixedBatches(4, 2), micro_batch=4, data_rank=0, data_size=1)
    assert len(list(one)) == 2
    with pytest.raises(StopIteration, match="no step starts after 8 samples"):
        one.next()


def test_an_error_reaches_the_caller_and_stays() -> None:
    one = loader(Numbers(broken=5))
    assert samples(one.next()) == [0, 1, 2, 3]
    for _ in range(2):
        with pytest.raises(OSError, match="sample 5 can't be read"):
            one.next()
    assert one.consumed_samples == 4
    one.close()


def test_close_ends_the_thread() -> None:
    before = threading.active_count()
    one = loader(Numbers())
    one.next()
    one.close()
    one.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("ending", ["", "raise RuntimeError('training failed')", "sys.exit(3)"])
def test_a_process_that_closes_nothing_still_ends(ending: str) -> None:
    root = Path(__file__).parents[3]
    code = (
        "import sys\n"
        "from tests.megatron_nlg.data.test_loader import Numbers, loader\n"
        f"one = loader(Numbers())\none.next()\n{ending}\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, timeout=60, capture_output=True, check=False)
    assert done.returncode == {"": 0, "s": 3}.get(ending[:1], 1), done.stderr


def test_no_more_batches_are_prepared_ahead_than_asked_for() -> None:
    dataset = Numbers()
    one = Loader(dataset, FixedBatches(4, 9), micro_batch=4, data_rank=0, data_size=1, prefetch=3)
    until(lambda: len(dataset.read) >= 12)
    one.next()
    until(lambda: len(dataset.read) >= 16)
    time.sleep(0.05)
    assert dataset.read == list(range(16))
    assert [samples(batch)[0] for batch in one] == [4, 8, 12, 16, 20, 24, 28, 32]
    one.close()


def test_waiting_is_measured() -> None:
    class Slow(Numbers):
        def __getitem__(self, index: int) -> dict[str, Tensor]:
            time.sleep(0.02)
            return super().__getitem__(index)

    one = Loader(Slow(), FixedBatches(4, 2), micro_batch=4, data_rank=0, data_size=1)
    one.next()
    assert 0.04 < one.waited_seconds < 5
    one.close()


def test_short_samples_are_cut_and_padded_to_the_steps_longest() -> None:
    clock = TokenClock.of(
        tiny("model.sequence_length=5", "schedule.sequence_warmup={start: 2, multiple: 2, tokens: 12}")
    )
    assert [clock.length(i) for i in range(7)] == [2, 2, 2, 4, 4, 5, 5]
    one = Loader(Numbers(), FixedBatches(4, 2), micro_batch=2, data_rank=0, data_size=1, clock=clock)
    first, second = list(one)
    assert [m["tokens"].shape for m in first.micro_batches] == [(2, 4)] * 2
    assert [m["loss_mask"].sum(dim=1).tolist() for m in first.micro_batches] == [[2, 2], [2, 4]]
    assert [m["loss_mask"].sum(dim=1).tolist() for m in second.micro_batches] == [[4, 5], [5, 5]]
    one.close()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
