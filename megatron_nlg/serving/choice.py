"""What a client gets: choices with their log-probabilities, put together from the model's pieces."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from data_prep.tokenizer import Tokenizer
from megatron_nlg.generation.scoring import Score
from megatron_nlg.generation.sequence import Piece, TokenLogprob
from megatron_nlg.generation.text import UNFINISHED, TextStream
from megatron_nlg.serving.protocol import Prompt


@dataclass
class Logprobs:
    """OpenAI's legacy form: parallel lists, an entry a token."""

    tokens: list[str] = field(default_factory=list)
    token_logprobs: list[float | None] = field(default_factory=list)
    top_logprobs: list[dict[str, float] | None] = field(default_factory=list)
    text_offset: list[int] = field(default_factory=list)
    """In characters from the start of the choice's text."""

    def take(self, count: int) -> dict[str, Any]:
        """Remove the first entries and return them as JSON."""
        found = {name: values[:count] for name, values in vars(self).items()}
        for values in vars(self).values():
            del values[:count]
        return found


class Choice:
    """One text. `take_score` and `take` return what is to be sent: text and log-probabilities."""

    def __init__(self, prompt: Prompt, tokenizer: Tokenizer, echo: bool, logprobs: bool):
        self.tokenizer, self.logprobs = tokenizer, Logprobs() if logprobs else None
        self.text = ""
        self.finish_reason: str | None = None
        self.completion_tokens = 0
        self._raw = TextStream(tokenizer, ())
        self._before: int | None = None
        self.prompt = prompt
        self.echo = (prompt.text if prompt.text is not None else tokenizer.decode(prompt.tokens)) if echo else ""

    def head(self, score: Score | None) -> tuple[str, dict[str, Any] | None]:
        """The echo, with the prompt's log-probabilities."""
        self.text = self.echo
        if self.logprobs is None or score is None:
            return self.echo, None
        assert score.top is not None
        found = map(TokenLogprob, score.logprobs, score.top)  # one more than is asked for, of what comes next
        for token, logprob in zip(self.prompt.tokens, [None, *found], strict=False):
            self._add(token, logprob, shown=bool(self.echo))
        return self.echo, self.logprobs.take(len(self.prompt.tokens))

    def take(self, piece: Piece) -> tuple[str, dict[str, Any] | None]:
        """A token more. Log-probabilities come with the text that they belong to, for a stop sequence takes both."""
        self.text += piece.text
        self.completion_tokens += 1
        if piece.result:
            self.finish_reason = piece.result.finish_reason
        if self.logprobs is None:
            return piece.text, None
        self._add(piece.token, piece.logprob, shown=piece.token != self.tokenizer.eod)
        certain = sum(offset < len(self.text) for offset in self.logprobs.text_offset)
        cut = piece.result and self.finish_reason == "stop" and piece.token != self.tokenizer.eod
        whole = len(self.logprobs.tokens)
        return piece.text, self.logprobs.take(whole if piece.result and not cut else certain)

    def _add(self, token: int, found: TokenLogprob | None, shown: bool) -> None:
        assert self.logprobs is not None
        name = self._name(token)
        self.logprobs.tokens.append(name)
        self.logprobs.token_logprobs.append(found.logprob if found else None)
        self.logprobs.text_offset.append(len(self._raw.text))
        top: dict[str, float] = {}
        for other, logprob in [*found.top.items(), (token, found.logprob)] if found else []:
            top.setdefault(self._name(other), logprob)  # of two that read alike, the more probable one
        self.logprobs.top_logprobs.append(top if found else None)
        self._before = token
        if shown:
            self._raw.add(token)

    def _name(self, token: int) -> str:
        """Text of a token after the one before it, on which it may depend whether a space is shown."""
        if token >= self.tokenizer.vocab_size:
            return f"token_id:{token}"
        before = [] if self._before is None else [self._before]
        start, both = self.tokenizer.decode(before), self.tokenizer.decode([*before, token])
        text = both[len(start) :] if both.startswith(start) else self.tokenizer.decode([token])
        return f"token_id:{token}" if UNFINISHED in text else text
