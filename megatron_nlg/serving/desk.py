"""Between the threads: requests go from the server's to the model's, and what becomes of them comes back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from megatron_nlg.generation.sampling import Sampling
from megatron_nlg.generation.scoring import Score
from megatron_nlg.generation.sequence import Piece
from megatron_nlg.serving.errors import ApiError


@dataclass(frozen=True)
class Work:
    """A text to continue, to score, or both."""

    index: int
    """Its number among all of this server."""
    prompt: list[int]
    sampling: Sampling | None
    """None: it is not continued."""
    top: int | None = None
    """Most probable tokens beside each of the prompt's; None: the prompt is not scored."""


Event = Piece | Score | ApiError
"""What becomes of a text: a score first where it was asked for, then its pieces. An error is its last."""


@dataclass(frozen=True)
class Order:
    """What all ranks do next."""

    new: list[Work] = field(default_factory=list)
    drop: list[int] = field(default_factory=list)
    """Texts that nobody waits for any more."""
    stop: bool = False


class Ticket:
    """A request in hand, on the server's side."""

    def __init__(self, desk: Desk, works: Sequence[Work]):
        self.desk, self.works = desk, works
        self.loop, self.events = asyncio.get_running_loop(), asyncio.Queue[tuple[int, Event]]()
        self.open = {work.index for work in works}
        """Texts that have not ended."""

    async def next(self) -> tuple[int, Piece | Score]:
        """The next event, and the number of its text. Raises ApiError for one that is an error."""
        index, event = await self.events.get()
        if isinstance(event, ApiError):
            raise event
        return index, event

    def post(self, index: int, event: Event) -> None:
        """Called by the model's thread."""
        with contextlib.suppress(RuntimeError):  # the server's loop has ended
            self.loop.call_soon_threadsafe(self.events.put_nowait, (index, event))


class Desk:
    """One of a server. Only what the model's side has is called outside the server's thread.

    Orders go through a SimpleQueue, for a signal handler may interrupt whoever holds an ordinary lock.
    """

    def __init__(self, most: int):
        self.most = most
        self.ready = False
        """Whether the model is loaded."""
        self.signals = 0
        """Requests to stop: at the first what is in hand is finished, at the second it is not."""
        self.cut_off = False
        """Whether requests were in hand when the model's loop ended."""
        self._closed: ApiError | None = None
        self._orders = SimpleQueue[Work | int | None]()
        self._tickets: dict[int, Ticket] = {}
        self._in_hand = 0
        self._texts = 0

    # ---- the server's side ---------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """ok, loading, draining or failed."""
        if self._closed:
            return "failed"
        return "draining" if self.signals else "ok" if self.ready else "loading"

    def submit(self, texts: Sequence[tuple[list[int], Sampling | None, int | None]]) -> Ticket:
        """Hand in (prompt, sampling, top) of each text. Raises ApiError when there is no room, or no model."""
        if self.state != "ok":
            raise self._closed or ApiError(503, f"the model is {self.state}; try again", code=self.state)
        if self._in_hand >= self.most:
            what = f"{self._in_hand} requests are in hand, and no more are taken (--max-requests); try again"
            raise ApiError(429, what, code="rate_limit_exceeded")
        works = [Work(self._texts + number, *text) for number, text in enumerate(texts)]
        self._texts += len(works)
        self._in_hand += 1
        ticket = Ticket(self, works)
        self._tickets |= dict.fromkeys(ticket.open, ticket)
        for work in works:
            self._orders.put(work)
        return ticket

    def release(self, ticket: Ticket) -> None:
        """The request has ended, or nobody waits for it any more."""
        self._in_hand -= 1
        for work in ticket.works:
            if self._tickets.pop(work.index, None):
                self._orders.put(work.index)

    # ---- the model's side ----------------------------------------------------------------------------------------

    def take(self, seconds: float, idle: bool) -> Order:
        """What has come, after waiting for it that long at most; to stop, once asked to and nothing is left to do."""
        found: list[Work | int | None] = []
        with contextlib.suppress(Empty):
            found.append(self._orders.get(timeout=seconds) if seconds else self._orders.get_nowait())
            while True:
                found.append(self._orders.get_nowait())
        new = [item for item in found if isinstance(item, Work)]
        drop = [item for item in found if isinstance(item, int)]
        gone = {*drop}
        new = [work for work in new if work.index not in gone]
        stop = self.signals > 1 or (self.signals == 1 and idle and not new)
        return Order(new, drop, stop)

    def post(self, index: int, event: Event) -> None:
        """Tell whoever waits for a text."""
        ended = isinstance(event, ApiError) or (isinstance(event, Piece) and event.result is not None)
        ticket = self._tickets.pop(index, None) if ended else self._tickets.get(index)
        if ticket:
            ticket.post(index, event)

    def finish(self, index: int) -> None:
        """A text that was only scored has ended: nobody needs to drop it."""
        self._tickets.pop(index, None)

    def signal(self) -> None:
        """Somebody asks to stop."""
        self.signals += 1
        self._orders.put(None)

    def close(self, why: ApiError) -> None:
        """Answer whatever is left with an error, and all that comes later."""
        self._closed = why
        for index in list(self._tickets):
            self.cut_off = True
            self.post(index, why)
