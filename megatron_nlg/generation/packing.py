"""Texts to score, packed so that what they share is computed once.

Sorted, texts with a common beginning are neighbours. Those that fit into one row are a tree of tokens in it: a token
stands at its depth and sees its ancestors (the choices of one question share its context). Texts that share much and do
not fit share a prefix, computed once and kept for many rows (few-shot examples before many questions).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

WORTH = 8
"""Tokens, and the eighth of a text, that sharing must save: a tree's attention is not the plain causal one."""
TREE = 512
"""Tokens of a tree that is not too large in any case; one of more has at most twice its longest text, since attention
costs the square."""


@dataclass(frozen=True)
class Scored:
    """A text as the model reads it: all but its last token, of which the last `targets` are predicted."""

    index: int
    """Of the request."""
    tokens: list[int]
    targets: list[int]

    @property
    def first(self) -> int:
        """Position after which the first target comes."""
        return len(self.tokens) - len(self.targets)


@dataclass
class Row:
    """A tree of tokens that follows a prefix, in depth-first order."""

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    """Column of the token before, -1 where that is the prefix's last or there is none."""
    entries: list[tuple[Scored, list[int]]] = field(default_factory=list)
    """Texts that end in this row, with the columns after which their targets come."""

    @cached_property
    def is_chain(self) -> bool:
        """Whether every token follows the one before it."""
        return self.parents == list(range(-1, len(self.parents) - 1))

    def mask(self, columns: int) -> Tensor:
        """Which tokens see which: [columns, columns], True where a token (row) sees another; padding sees itself."""
        seen = torch.eye(columns, dtype=torch.bool)
        start = 0
        while start < len(self.parents):  # a run of tokens that follow each other sees what its parent sees
            end = start + 1
            while end < len(self.parents) and self.parents[end] == end - 1:
                end += 1
            if self.parents[start] >= 0:
                seen[start:end, :start] = seen[self.parents[start], :start]
            seen[start:end, start:end] = torch.ones(end - start, end - start, dtype=torch.bool).tril_()
            start = end
        return seen


@dataclass(frozen=True)
class Batch:
    """Rows that follow the same prefix, computed in one pass."""

    prefix: tuple[int, ...]
    rows: list[Row]

    @property
    def columns(self) -> int:
        """Of the longest row."""
        return max(len(row.tokens) for row in self.rows)


def pack(texts: Sequence[Scored], batch_tokens: int, padding: int | None = None, tree: int = TREE) -> list[Batch]:
    """Batches of at most `batch_tokens`, padding included, longest rows first; a row alone may have more.

    `padding`: tokens of it that a batch may have, where more would cost more than a pass of their own; None: any.
    """
    texts = sorted(texts, key=lambda text: text.tokens)
    shared = [0] + [_common(a.tokens, b.tokens) for a, b in pairwise(texts)]
    groups: dict[tuple[int, ...], list[Row]] = {}
    open_ranges = [(0, len(texts), 0)] if texts else []
    while open_ranges:
        low, high, depth = open_ranges.pop()
        lengths = [len(text.tokens) for text in texts[low:high]]
        size = sum(lengths) - sum(shared[low + 1 : high]) - depth
        level, worth = min(shared[low + 1 : high], default=lengths[0]), max(WORTH, sum(lengths) / len(lengths) / 8)
        prefix = min(level, *(text.first for text in texts[low:high]), lengths[0])
        if high - low == 1 or (level - depth >= worth and size <= max(tree, 2 * max(lengths) - depth)):
            groups.setdefault(tuple(texts[low].tokens[:depth]), []).append(_row(texts[low:high], depth))
        elif level - depth < worth:
            cuts = [i for i in range(low + 1, high) if shared[i] - depth < worth]
            open_ranges += [(a, b, depth) for a, b in zip([low, *cuts], [*cuts, high], strict=True)]
        elif prefix - depth >= worth:
            open_ranges.append((low, high, prefix))
        else:  # they share what is scored itself, and are too many for one row
            middle = (low + high) // 2
            open_ranges += [(low, middle, depth), (middle, high, depth)]
    batches = [batch for prefix, rows in groups.items() for batch in _batches(prefix, rows, batch_tokens, padding)]
    longest = {prefix: len(prefix) + max(len(row.tokens) for row in rows) for prefix, rows in groups.items()}
    return sorted(batches, key=lambda batch: (-longest[batch.prefix], batch.prefix, -batch.columns))


def _common(a: list[int], b: list[int]) -> int:
    """Length of the common beginning, by bisection: comparing slices is far faster than comparing tokens."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _row(texts: Sequence[Scored], depth: int) -> Row:
    """The tree of sorted texts without their first `depth` tokens."""
    row = Row()
    path: list[int] = []  # columns of the text before, by depth
    before: list[int] = []
    for text in texts:
        common = max(_common(before, text.tokens), depth)
        path = path[: common - depth]
        for position in range(common, len(text.tokens)):
            row.parents.append(path[-1] if path else -1)
            path.append(len(row.tokens))
            row.tokens.append(text.tokens[position])
            row.positions.append(position)
        row.entries.append((text, path[text.first - depth :]))
        before = text.tokens
    return row


def _batches(prefix: tuple[int, ...], rows: list[Row], batch_tokens: int, padding: int | None) -> list[Batch]:
    rows.sort(key=lambda row: -len(row.tokens))
    batches: list[Batch] = []
    size = columns = padded = 0
    for row in rows:
        size, padded = size + columns, padded + columns - len(row.tokens)
        if not batches or size > batch_tokens or (padding is not None and padded > padding):
            batches.append(Batch(prefix, []))
            size = columns = len(row.tokens)
            padded = 0
        batches[-1].rows.append(row)
    return batches
