"""A run's model without its optimizer, and continuations of many prompts at once by it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from data_prep.tokenizer import Tokenizer
from megatron_nlg.config.errors import ConfigError, InputError, Problem
from megatron_nlg.config.schema import Checkpoint, KernelSettings, RunConfig
from megatron_nlg.generation.sampling import Sampling
from megatron_nlg.generation.sequence import Piece, Result
from megatron_nlg.generation.sequence import Sequence as Text
from megatron_nlg.model.cache import CachedModel
from megatron_nlg.model.gpt import build_chunks
from megatron_nlg.model.kernels import choose
from megatron_nlg.parallel.context import ParallelContext
from megatron_nlg.parallel.rng import seed_step
from megatron_nlg.training.checkpoint.format import model_identity
from megatron_nlg.training.checkpoint.store import Checkpoints

PREFILL_TOKENS = 8192
"""Of prompts that are read in one pass, padding included; one prompt may have more."""


class Generator:
    """Weights of a run's newest whole checkpoint, in the layout of `config`.

    Every method is collective: all ranks call it with the same arguments and get the same results.
    """

    def __init__(self, config: RunConfig, run_folder: Path, tokenizer: Tokenizer):
        _check_layout(config)
        self.config, self.tokenizer = config, tokenizer
        self.context = ParallelContext.create(config)
        seed_step(config.seed, 0, self.context.at, self.context.device)
        # Passes have lengths of their own, and the cache lives in this project's own attention.
        plain = KernelSettings(compiled=False, libraries=False)
        self.chunks = build_chunks(config, self.context, choose(self.context.device, config.parallel, plain))
        for chunk in self.chunks:
            chunk.eval()
        checkpoints = Checkpoints(run_folder / "checkpoints", Checkpoint(), self.context)
        identity = {**model_identity(config), "tokenizer": tokenizer.identity}
        self.progress, self.damaged = checkpoints.load_weights(self.chunks, identity)
        checkpoints.close()
        # A model may have more entries than its tokenizer, which could not say what they mean.
        self.entries = min(config.model.vocab_size, tokenizer.vocab_size)
        self._model: CachedModel | None = None

    def generate(
        self, prompts: Sequence[list[int]], sampling: Sequence[Sampling], batch_size: int = 16, slide: bool = False
    ) -> Iterator[Result]:
        """Continue prompts of token ids, each by its own settings; results come as they are finished.

        Up to `batch_size` are continued together, and a finished one makes room for the next. A text ends when it
        fills the model's sequence; with `slide` it goes on with what fits, every token then by a pass over it all.
        Raises InputError for settings that make no sense, an empty prompt, an unknown token, and, without `slide`, a
        prompt that leaves no room.
        """
        return (piece.result for piece in self.stream(prompts, sampling, batch_size, slide) if piece.result)

    def stream(
        self, prompts: Sequence[list[int]], sampling: Sequence[Sampling], batch_size: int = 16, slide: bool = False
    ) -> Iterator[Piece]:
        """As `generate`, token by token."""
        waiting = deque(self._texts(prompts, sampling, slide))
        if not waiting:
            return
        length = max(len(text.text) + text.sampling.max_tokens for text in waiting)
        model = self._cached(min(batch_size, len(waiting)), min(length, self.config.model.sequence_length))
        active: list[Text] = []  # text i has row i of the cache
        sliding: list[Text] = []
        while waiting or active or sliding:
            yield from self._admit(model, waiting, active, sliding)
            yield from self._retire(model, active, sliding, self._step(model, active))
            for text in list(sliding):
                yield (piece := self._slide(model, text))
                if piece.result:
                    sliding.remove(text)

    def tokens(self, prompt: list[int], sampling: Sampling) -> Iterator[int]:
        """Continue one prompt up to max_tokens or the document's end; text that is too long is cut at its start."""
        [result] = self.generate([prompt], [sampling], slide=True)
        return iter(result.tokens)

    def text(self, prompt: str, sampling: Sampling) -> str:
        """Continue a prompt likewise."""
        [result] = self.generate([self.encode(prompt)], [sampling], slide=True)
        return result.text

    def encode(self, prompt: str) -> list[int]:
        """Tokens of a prompt; an empty one starts a new document."""
        return self.tokenizer.encode(prompt) or [self.tokenizer.eod]

    # ---- passes ----------------------------------------------------------------------------------------------

    def _texts(self, prompts: Sequence[list[int]], sampling: Sequence[Sampling], slide: bool) -> Iterator[Text]:
        """The texts to continue, checked."""
        longest, entries = self.config.model.sequence_length, self.entries
        for index, (prompt, how) in enumerate(zip(prompts, sampling, strict=True)):
            how.check()
            if how.logprobs is not None and how.logprobs > entries:
                raise InputError(f"--logprobs {how.logprobs}: there are only {entries} tokens")
            if not prompt:
                raise InputError(f"prompt {index}: has no tokens; start a document with [{self.tokenizer.eod}]")
            if bad := [token for token in prompt if not 0 <= token < entries]:
                raise InputError(f"prompt {index}: token {bad[0]} is outside the {entries} entries")
            if len(prompt) >= longest and not slide:
                raise InputError(
                    f"prompt {index}: has {len(prompt)} tokens, and the model's sequence (model.sequence_length) "
                    f"{longest}; leave room for at least one"
                )
            yield Text(index, list(prompt), how, self.tokenizer, None if slide else longest)

    def _cached(self, rows: int, length: int) -> CachedModel:
        """A cache of at least that size; the last one where it is large enough."""
        have = self._model
        if have is None or have.cache.rows < rows or have.cache.length < length:
            self._model = None  # its memory goes before the new one's comes
            self._model = have = CachedModel(self.chunks, self.context, rows, length)
        return have

    def _admit(
        self, model: CachedModel, waiting: deque[Text], active: list[Text], sliding: list[Text]
    ) -> Iterator[Piece]:
        """Read waiting prompts into free rows, as many a pass as PREFILL_TOKENS allow."""
        while waiting and len(active) + len(sliding) < model.cache.rows:
            group: list[Text] = []
            longest = 0
            while waiting and len(active) + len(sliding) + len(group) < model.cache.rows:
                size = min(len(waiting[0].text), self.config.model.sequence_length)
                longest = max(longest, size)
                if group and longest * (len(group) + 1) > PREFILL_TOKENS:
                    break
                group.append(waiting.popleft())
            first = len(active)
            active += group
            windows = [text.text[-self.config.model.sequence_length :] for text in group]
            logits = model.logits(self._padded(windows), [0] * len(group), [len(w) - 1 for w in windows], first)
            choices = self._choose(model, logits, group)
            yield from self._retire(model, active, sliding, choices, first)

    def _step(self, model: CachedModel, active: list[Text]) -> list[list[float]]:
        """One token more for every active text."""
        if not active:
            return []
        last = self._padded([text.text[-1:] for text in active])
        logits = model.logits(last, [len(text.text) - 1 for text in active], [0] * len(active))
        return self._choose(model, logits, active)

    def _retire(
        self, model: CachedModel, active: list[Text], sliding: list[Text], choices: list[list[float]], first: int = 0
    ) -> Iterator[Piece]:
        """Give their tokens to the texts from `first` on; those that end or fill the sequence leave their rows."""
        pieces = [text.add(choice) for text, choice in zip(active[first:], choices, strict=True)]
        for row in reversed(range(first, len(active))):  # the last row moves into the gap
            text, piece = active[row], pieces[row - first]
            full = len(text.text) > self.config.model.sequence_length
            if not piece.result and not full:
                continue
            moved = active.pop()
            if moved is not text:
                active[row] = moved
                model.cache.move(len(active), row, min(len(moved.text), model.cache.length))
            if not piece.result:
                sliding.append(text)
        yield from pieces

    def _slide(self, model: CachedModel, text: Text) -> Piece:
        """One token more for a text that is longer than the model's sequence."""
        window = self._padded([text.text[-self.config.model.sequence_length :]])
        [choice] = self._choose(model, model.logits(window, [0], [window.shape[1] - 1], cached=False), [text])
        return text.add(choice)

    def _padded(self, rows: list[list[int]]) -> Tensor:
        """[rows, longest]; what pads does not matter."""
        longest = max(map(len, rows))
        return torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=self.context.device.torch)

    def _choose(self, model: CachedModel, logits: Tensor | None, texts: list[Text]) -> list[list[float]]:
        """The next token of each text with its log-probabilities: chosen by one rank, so that all agree."""
        width = 1 + max((2 * t.sampling.logprobs + 1 for t in texts if t.sampling.logprobs is not None), default=0)
        values = None
        if logits is not None:
            known = logits[:, : self.entries]
            values = torch.zeros(len(texts), width, dtype=torch.float64)
            values[:, 0] = known.argmax(-1)
            for row, text in enumerate(texts):
                if not text.is_plain:
                    choice = text.choose(known[row].cpu())
                    values[row, : len(choice)] = torch.tensor(choice, dtype=torch.float64)
        shared: list[list[float]] = model.share(values, (len(texts), width)).tolist()
        return shared


def _check_layout(config: RunConfig) -> None:
    """Raise ConfigError for layouts that cut a sequence, of which generation has one token at a time."""
    problems = [
        Problem(key, f"{value}: one token at a time can't be cut over ranks; leave it out")
        for key, value, cut in (
            ("parallel.sequence", "true", config.parallel.sequence),
            ("parallel.context", config.parallel.context, config.parallel.context > 1),
        )
        if cut
    ]
    if problems:
        raise ConfigError(problems, "generation")
