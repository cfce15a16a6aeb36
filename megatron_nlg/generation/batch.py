"""Texts that are continued together: they join while others run, leave when they end, and may be dropped between."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import torch
from torch import Tensor

from megatron_nlg.generation.sequence import Piece, Sequence
from megatron_nlg.model.cache import CachedModel

PREFILL_TOKENS = 8192
"""Of prompts that are read in one pass, padding included; one prompt may have more."""


class Batch:
    """Texts in the rows of a cache, and those that wait for a row.

    Every rank of the replica does the same with it, in the same order.
    """

    def __init__(self, model: CachedModel, entries: int, sequence_length: int):
        self.model, self.entries, self.sequence_length = model, entries, sequence_length
        self.waiting: deque[Sequence] = deque()
        self.active: list[Sequence] = []  # text i has row i of the cache
        self.sliding: list[Sequence] = []
        """Those that are longer than the model's sequence: their rows would not help."""

    def __bool__(self) -> bool:
        return bool(self.waiting or self.active or self.sliding)

    def advance(self) -> Iterator[Piece]:
        """Admit what there is room for, and one token more for every text."""
        yield from self._admit()
        yield from self._retire(self._step())
        for text in list(self.sliding):
            yield (piece := self._slide(text))
            if piece.result:
                self.sliding.remove(text)

    def drop(self, index: int) -> None:
        """Forget a text, wherever it is; one that has ended already is none."""
        self.waiting = deque(text for text in self.waiting if text.index != index)
        self.sliding = [text for text in self.sliding if text.index != index]
        for row, text in enumerate(self.active):
            if text.index == index:
                self._leave(row)
                return

    # ---- passes ----------------------------------------------------------------------------------------------

    @property
    def _free(self) -> int:
        return self.model.cache.rows - len(self.active) - len(self.sliding)

    def _admit(self) -> Iterator[Piece]:
        """Read waiting prompts into free rows, as many a pass as PREFILL_TOKENS allow."""
        while self.waiting and self._free > 0:
            group: list[Sequence] = []
            longest = 0
            while self.waiting and self._free > len(group):
                longest = max(longest, len(self._window(self.waiting[0])))
                if group and longest * (len(group) + 1) > PREFILL_TOKENS:
                    break
                group.append(self.waiting.popleft())
            first = len(self.active)
            self.active += group
            windows = [self._window(text) for text in group]
            hidden = self.model.hidden(self._padded(windows), [0] * len(group), [len(w) - 1 for w in windows], first)
            yield from self._retire(self._choose(hidden, group), first)

    def _step(self) -> list[list[float]]:
        """One token more for every active text."""
        if not self.active:
            return []
        last = self._padded([text.text[-1:] for text in self.active])
        hidden = self.model.hidden(last, [len(text.text) - 1 for text in self.active], [0] * len(self.active))
        return self._choose(hidden, self.active)

    def _retire(self, choices: list[list[float]], first: int = 0) -> Iterator[Piece]:
        """Give their tokens to the texts from `first` on; those that end or fill the sequence leave their rows."""
        pieces = [text.add(choice) for text, choice in zip(self.active[first:], choices, strict=True)]
        for row in reversed(range(first, len(self.active))):
            text, piece = self.active[row], pieces[row - first]
            full = len(text.text) > self.sequence_length
            if not piece.result and not full:
                continue
            self._leave(row)
            if not piece.result:
                self.sliding.append(text)
        yield from pieces

    def _leave(self, row: int) -> None:
        """Free a row: the last one moves into the gap."""
        moved = self.active.pop()
        if row < len(self.active):
            self.active[row] = moved
            self.model.cache.move(len(self.active), row, min(len(moved.text), self.model.cache.length))

    def _slide(self, text: Sequence) -> Piece:
        """One token more for a text that is longer than the model's sequence."""
        window = self._padded([self._window(text)])
        [choice] = self._choose(self.model.hidden(window, [0], [window.shape[1] - 1], cached=False), [text])
        return text.add(choice)

    def _window(self, text: Sequence) -> list[int]:
        return text.text[-self.sequence_length :]

    def _padded(self, rows: list[list[int]]) -> Tensor:
        """[rows, longest]; what pads does not matter."""
        longest = max(map(len, rows))
        padded = [row + [0] * (longest - len(row)) for row in rows]
        return torch.tensor(padded, device=self.model.weight.device)

    def _choose(self, hidden: Tensor | None, texts: list[Sequence]) -> list[list[float]]:
        """The next token of each text with its log-probabilities: chosen by one rank, so that all agree."""
        if all(text.is_plain for text in texts):
            best = self.model.best(hidden, self.entries)
            return self._shared(None if best is None else best[:, None].double(), (len(texts), 1))
        width = 1 + max((2 * t.sampling.logprobs + 1 for t in texts if t.sampling.logprobs is not None), default=0)
        values = None
        if (logits := self.model.logits(hidden)) is not None:
            known = logits[:, : self.entries]
            values = torch.zeros(len(texts), width, dtype=torch.float64)
            values[:, 0] = known.argmax(-1)
            for row, text in enumerate(texts):
                if not text.is_plain:
                    choice = text.choose(known[row].cpu())
                    values[row, : len(choice)] = torch.tensor(choice, dtype=torch.float64)
        return self._shared(values, (len(texts), width))

    def _shared(self, values: Tensor | None, shape: tuple[int, int]) -> list[list[float]]:
        shared: list[list[float]] = self.model.share(values, shape).tolist()
        return shared
