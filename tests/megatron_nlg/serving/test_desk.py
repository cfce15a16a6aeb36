"""The desk between the threads: who gets what, and when the model's loop may end."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from megatron_nlg.generation.sampling import Sampling
from megatron_nlg.generation.sequence import Piece, Result
from megatron_nlg.serving.desk import Desk
from megatron_nlg.serving.errors import ApiError

TEXT = ([1, 2], Sampling(), None)
LAST = Result(0, [3], "c", "length")


def open_desk(most: int = 3) -> Desk:
    desk = Desk(most)
    desk.ready = True
    return desk


def test_a_request_there_and_back() -> None:
    async def ask() -> None:
        desk = open_desk()
        ticket = desk.submit([TEXT, TEXT])
        assert [work.index for work in desk.take(0, True).new] == [0, 1]
        desk.post(1, Piece(1, "c", 3, None, LAST))
        assert await ticket.next() == (1, Piece(1, "c", 3, None, LAST))
        desk.release(ticket)
        assert desk.take(0, False).drop == [0]  # the other one has ended
        desk.post(0, Piece(0, "late", 3))  # to nobody
        assert [work.index for work in desk.submit([TEXT]).works] == [2]

    asyncio.run(ask())


def test_what_left_before_it_was_taken_never_starts() -> None:
    async def ask() -> None:
        desk = open_desk()
        desk.release(desk.submit([TEXT]))
        assert desk.take(0, True).new == []

    asyncio.run(ask())


def test_it_ends_when_nothing_is_left_or_at_once() -> None:
    async def ask() -> None:
        desk = open_desk()
        ticket = desk.submit([TEXT])
        desk.signal()
        with pytest.raises(ApiError, match="draining"):
            desk.submit([TEXT])
        assert not desk.take(0, True).stop and not desk.take(0, False).stop and desk.take(0, True).stop
        desk.signal()
        assert desk.take(0, False).stop
        desk.close(ApiError(503, "stopped"))
        with pytest.raises(ApiError, match="stopped"):
            await ticket.next()
        assert desk.cut_off

    asyncio.run(ask())


def test_a_signal_wakes_the_loop() -> None:
    """Its handler runs in the very thread that waits."""
    desk = open_desk()
    before = signal.signal(signal.SIGALRM, lambda got, frame: desk.signal())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        start = time.monotonic()
        assert desk.take(60, True).stop and time.monotonic() - start < 30
    finally:
        signal.signal(signal.SIGALRM, before)
