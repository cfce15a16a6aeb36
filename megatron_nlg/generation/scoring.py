"""Log-probabilities of given continuations by a run's model: for evaluation, bias studies and the API's echo."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from megatron_nlg.config.errors import InputError
from megatron_nlg.generation.generator import Generator
from megatron_nlg.generation.packing import Batch, Row, Scored, pack
from megatron_nlg.model.attention import ScaledDotProductAttention
from megatron_nlg.model.cache import Span
from megatron_nlg.model.lean import head_logits, run_stages

BATCH_TOKENS = {"cpu": 2048, "cuda": 16384}
"""Of one pass, padding included: what keeps a processor's caches, or a GPU, busy."""
PADDING = {"cpu": 48, "cuda": 1024}
"""Tokens whose computation takes as long as what a pass costs beside its tokens: reading weights, starting kernels."""
HEAD_TOKENS = 512
"""Whose logits exist at once: a vocabulary has so many entries that all would need more memory than the model."""
CAUSAL = Span(rows=slice(0), columns=slice(0), seen=0, mask=None, causal=True)
"""Rows that have no prefix and no branches."""


@dataclass(frozen=True)
class Request:
    """Token ids: what is given, and what is scored after it."""

    context: list[int]
    continuation: list[int]

    @classmethod
    def whole(cls, tokens: list[int]) -> Request:
        """A text scored without a context, which its first token is."""
        return cls(tokens[:1], tokens[1:])


@dataclass(frozen=True)
class Score:
    """Of one request; lists have an entry a token of its continuation."""

    index: int
    logprobs: list[float]
    """Natural logarithms, of the model itself (no temperature)."""
    greedy: list[bool]
    """Whether the token is the most probable one."""
    top: list[dict[int, float]] | None = None
    """Log-probabilities of the most probable tokens, highest first, where they were asked for."""

    @property
    def total(self) -> float:
        """Log-likelihood of the continuation."""
        return sum(self.logprobs)


class Scorer:
    """Scores requests by a Generator's model. Collective: all ranks call it alike and get the same.

    Data-parallel ranks share the work. A context that does not fit is cut at its start, as lm-evaluation-harness does:
    of context and continuation, the last sequence_length + 1 tokens stay.
    """

    def __init__(self, generator: Generator, batch_tokens: int | None = None):
        self.generator = generator
        self.chunks, self.context = generator.chunks, generator.context
        self.model = generator.config.model
        device = self.context.device.torch.type
        self.batch_tokens, self.padding = batch_tokens or BATCH_TOKENS[device], PADDING[device]
        self._prefix: tuple[int, ...] = ()
        self._kept = Prefix()
        self._cores = [layer.self_attention.core_attention for chunk in self.chunks for layer in chunk.decoder.layers]
        if not all(isinstance(core, ScaledDotProductAttention) for core in self._cores):
            raise InputError(
                "kernels.libraries true: Transformer Engine's attention keeps no prefixes; set it to false"
            )

    def score(self, requests: Sequence[Request], top: int = 0) -> Iterator[Score]:
        """Scores as they are finished, long requests first. The iterator must be exhausted, on every rank.

        Raises InputError for a request that the model can't score.
        """
        if not 0 <= top <= self.model.vocab_size:
            raise InputError(f"logprobs {top}: there are {self.model.vocab_size} tokens; ask for 0 to that many")
        batches = pack(list(self._texts(requests)), self.batch_tokens, self.padding)
        layout, mine = self.context.layout, self.context.at.data
        several = layout.world_size > 1
        # Stages work on different batches of a window at the same time.
        window = layout.data * (4 * layout.pipeline if several else 1)
        self._prefix, self._kept = (), Prefix()
        for start in range(0, len(batches), window):
            found: list[Score] = []
            for batch in batches[start : start + window][mine :: layout.data]:
                found += self._scores(batch, top)
            speaks = self.context.is_last_stage and self.context.at.tensor == 0
            for scores in self.context.gather(found if speaks else []) if several else [found]:
                yield from scores
        self._prefix, self._kept = (), Prefix()

    def _texts(self, requests: Iterable[Request]) -> Iterator[Scored]:
        longest, entries = self.model.sequence_length, self.model.vocab_size
        for index, request in enumerate(requests):
            context, continuation = request.context, request.continuation
            if not context or not continuation:
                what = "continuation" if context else "context"
                raise InputError(f"request {index}: its {what} has no tokens; give at least one")
            if len(continuation) > longest:
                raise InputError(
                    f"request {index}: its continuation has {len(continuation)} tokens, and the model's sequence "
                    f"(model.sequence_length) {longest}; shorten it, or score it in pieces"
                )
            text = (context + continuation)[-longest - 1 :]
            if min(text) < 0 or max(text) >= entries:
                bad = next(token for token in text if not 0 <= token < entries)
                raise InputError(f"request {index}: token {bad} is outside the {entries} entries")
            yield Scored(index, text[:-1], continuation)

    # ---- one pass --------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _scores(self, batch: Batch, top: int) -> list[Score]:
        """Scores of a batch's requests, [] on ranks other than the last stage's."""
        if batch.prefix != self._prefix:
            self._prefix, self._kept = batch.prefix, Prefix()
            if batch.prefix:
                self._kept.span, self._kept.recording = CAUSAL, True
                self._pass([Row(list(batch.prefix), list(range(len(batch.prefix))))])
                self._kept.recording = False
        self._kept.span = self._span(batch)
        hidden = self._pass(batch.rows)
        return [] if hidden is None else self._read(batch, hidden, top)

    def _span(self, batch: Batch) -> Span:
        """What a batch's tokens see: [rows or 1, 1, columns, prefix + columns] where that is not causal."""
        chains, columns, before = all(row.is_chain for row in batch.rows), batch.columns, len(batch.prefix)
        if chains and not before:
            return CAUSAL
        masks = [Row([], [], list(range(-1, columns - 1)))] if chains else batch.rows
        like = next(self.chunks[0].parameters())
        seen = F.pad(torch.stack([row.mask(columns) for row in masks]), (before, 0), value=True)
        mask = torch.zeros(seen.shape, dtype=like.dtype).masked_fill_(~seen, float("-inf"))
        return replace(CAUSAL, mask=mask[:, None].to(like.device), causal=False)

    def _pass(self, rows: list[Row]) -> Tensor | None:
        """[columns, rows, hidden size] on the last stage."""
        device, columns = self.context.device.torch, max(len(row.tokens) for row in rows)
        tokens = torch.tensor([row.tokens + [0] * (columns - len(row.tokens)) for row in rows], device=device)
        places = torch.tensor([row.positions + [0] * (columns - len(row.tokens)) for row in rows], device=device)
        with self._attached():
            return run_stages(self.chunks, self.context, tokens, places)

    @contextmanager
    def _attached(self) -> Iterator[None]:
        """Lend the layers the prefix in place of a generator's cache."""
        before = [(core.cache, core.cache_slot) for core in self._cores]
        for slot, core in enumerate(self._cores):
            core.cache, core.cache_slot = self._kept, slot
        try:
            yield
        finally:
            for core, (cache, slot) in zip(self._cores, before, strict=True):
                core.cache, core.cache_slot = cache, slot

    def _read(self, batch: Batch, hidden: Tensor, top: int) -> list[Score]:
        """Scores from the last stage's output."""
        places: dict[tuple[int, int], int] = {}  # (column, row) -> place among those whose logits are computed
        wanted: list[tuple[int, int]] = []  # (place, target)
        for number, row in enumerate(batch.rows):
            for text, columns in row.entries:
                for column, target in zip(columns, text.targets, strict=True):
                    wanted.append((places.setdefault((column, number), len(places)), target))
        at = torch.tensor(list(places), device=hidden.device)
        targets = torch.tensor(wanted, device=hidden.device)
        logprobs, greedy, best = self._logprobs(hidden[at[:, 0], at[:, 1]], targets, top)
        scores, start = [], 0
        for row in batch.rows:
            for text, columns in row.entries:
                end = start + len(columns)
                most = [best[place] for place, _ in wanted[start:end]] if top else None
                scores.append(Score(text.index, logprobs[start:end], greedy[start:end], most))
                start = end
        return scores

    def _logprobs(
        self, hidden: Tensor, wanted: Tensor, top: int
    ) -> tuple[list[float], list[bool], list[dict[int, float]]]:
        """hidden [places, hidden size]; wanted [targets, (place, token)] -> log-probability and greediness of each
        target, and of each place the `top` most probable tokens.

        A tensor rank has the logits of its part of the vocabulary; only sums and maxima travel.
        """
        out = torch.zeros(len(wanted), dtype=torch.float32, device=hidden.device)
        greedy = torch.zeros(len(wanted), dtype=torch.bool, device=hidden.device)
        best: list[dict[int, float]] = []
        for start in range(0, len(hidden), HEAD_TOKENS):
            logits = head_logits(self.chunks[-1], hidden[start : start + HEAD_TOKENS])
            here = (wanted[:, 0] >= start) & (wanted[:, 0] < start + len(logits))
            place, token = (wanted[here] - torch.tensor([start, 0], device=wanted.device)).unbind(1)
            first = self.context.at.tensor * logits.shape[1]
            own = (token >= first) & (token < first + logits.shape[1])
            found = logits[place, torch.where(own, token - first, 0)].where(own, 0)
            best_here = logits.topk(min(top, logits.shape[1])) if top else logits.max(1, keepdim=True)
            values, tokens = self._merged(best_here.values, best_here.indices + first, max(1, top))
            norm = self._normalizer(logits, values[:, :1])
            out[here] = self._summed(found) - norm[place]
            greedy[here] = tokens[place, 0] == token
            if top:
                rows = zip(tokens.tolist(), (values - norm[:, None]).tolist(), strict=True)
                best += [dict(zip(*row, strict=True)) for row in rows]
        return out.tolist(), greedy.tolist(), best

    def _merged(self, values: Tensor, tokens: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The highest of all tensor ranks' highest, [places, count]."""
        if self.context.layout.tensor == 1:
            return values, tokens
        parts = torch.stack((values.double(), tokens.double()), dim=-1)
        gathered = [torch.empty_like(parts) for _ in range(self.context.layout.tensor)]
        dist.all_gather(gathered, parts, group=self.context.tensor_group)
        every = torch.cat(gathered, dim=1)
        order = every[..., 0].argsort(dim=1, descending=True, stable=True)[:, :count, None]
        values, tokens = every.gather(1, order.expand(-1, -1, 2)).unbind(-1)
        return values.float(), tokens.long()

    def _normalizer(self, logits: Tensor, highest: Tensor) -> Tensor:
        """Logarithm of the sum of all exponentials, [places]. Uses up the logits; `highest` is their maximum."""
        return highest[:, 0] + self._summed(logits.sub_(highest).exp_().sum(1)).log()

    def _summed(self, values: Tensor) -> Tensor:
        if self.context.layout.tensor > 1:
            dist.all_reduce(values, group=self.context.tensor_group)
        return values


class Prefix:
    """Keys and values of one prefix, by layer, that all rows of later passes see before their own."""

    def __init__(self) -> None:
        self.span: Span | None = None
        self.kept: list[tuple[Tensor, Tensor]] = []
        self.recording = False
        """Whether a pass is the prefix itself."""

    def extend(self, slot: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """As KeptKeys."""
        both = key.permute(1, 2, 0, 3), value.permute(1, 2, 0, 3)  # [rows, groups, tokens, size]
        if self.recording:
            self.kept.append(both)
        elif self.kept:
            key, value = (
                torch.cat((kept.expand(len(new), -1, -1, -1), new), dim=2)
                for kept, new in zip(self.kept[slot], both, strict=True)
            )
            return key, value
        return both
