"""A run's model without its optimizer, and continuations of many prompts at once by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

from data_prep.tokenizer import Tokenizer
from megatron_nlg.config.errors import ConfigError, InputError, Problem
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.generation.batch import Batch
from megatron_nlg.generation.sampling import Sampling
from megatron_nlg.generation.sequence import Piece, Result
from megatron_nlg.generation.sequence import Sequence as Text
from megatron_nlg.generation.weights import load_weights
from megatron_nlg.model.cache import CachedModel
from megatron_nlg.model.gpt import GPT
from megatron_nlg.model.lean import head_weight
from megatron_nlg.model.screen import Screen
from megatron_nlg.parallel.context import ParallelContext
from megatron_nlg.training.checkpoint.format import Progress


class Generator:
    """Weights of a run's newest whole checkpoint, or of `step`'s, in the layout of `config`.

    Every method is collective: all ranks call it with the same arguments and get the same results.
    """

    def __init__(self, config: RunConfig, run_folder: Path, tokenizer: Tokenizer, step: int | None = None):
        _check_layout(config)
        if config.classes:
            raise InputError(f"{run_folder}: is a classifier, which has no next token to give; use classify")
        self.config, self.tokenizer = config, tokenizer
        loaded = load_weights(config, run_folder, {"tokenizer": tokenizer.identity}, step)
        self.context, self.chunks = loaded.context, loaded.chunks
        self.progress, self.damaged = loaded.progress, loaded.damaged
        self._model: CachedModel | None = None
        self._screen: Callable[[], Screen | None] = cache(self._new_screen)
        # A model may have more entries than its tokenizer, which could not say what they mean.
        self.entries = min(config.model.vocab_size, tokenizer.vocab_size)

    @classmethod
    def over(
        cls, config: RunConfig, context: ParallelContext, chunks: Sequence[GPT], tokenizer: Tokenizer
    ) -> Generator:
        """Of a model that exists, such as one in training; it must be in its evaluation mode."""
        _check_layout(config)
        made = cls.__new__(cls)
        made.config, made.context, made.chunks, made.tokenizer = config, context, list(chunks), tokenizer
        made.progress, made.damaged, made._model = Progress(), [], None
        made._screen = lambda: None  # its weights change
        made.entries = min(config.model.vocab_size, tokenizer.vocab_size)
        return made

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
        waiting = list(self.texts(prompts, sampling, slide))
        if not waiting:
            return
        length = max(len(text.text) + text.sampling.max_tokens for text in waiting)
        batch = self.batch(min(batch_size, len(waiting)), length)
        batch.waiting.extend(waiting)
        while batch:
            yield from batch.advance()

    def batch(self, rows: int, length: int) -> Batch:
        """An empty batch of that many rows for texts of that many tokens, prompt included.

        It takes the cache of the one before it.
        """
        longest = self.config.model.sequence_length
        return Batch(self._cached(rows, min(length, longest)), self.entries, longest)

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

    def texts(self, prompts: Sequence[list[int]], sampling: Sequence[Sampling], slide: bool) -> Iterator[Text]:
        """Texts for a batch, checked."""
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
            self._model = have = CachedModel(self.chunks, self.context, rows, length, self._screen)
        return have

    def _new_screen(self) -> Screen | None:
        """Of the output layer, where this rank has all of it."""
        if not self.context.is_last_stage or self.context.layout.tensor > 1:
            return None
        return Screen.over(head_weight(self.chunks[-1]).detach()[: self.entries])


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
