"""Text of tokens as they come, and where it ends."""

from __future__ import annotations

from collections.abc import Sequence

from data_prep.tokenizer import Tokenizer

UNFINISHED = "\ufffd"
"""What bytes that are no whole character yet are decoded to."""


class TextStream:
    """Tokens in, text out as soon as it is certain: whole characters, and not the beginning of a stop sequence."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str]):
        self._tokenizer, self._stop = tokenizer, tuple(stop)
        self._tokens: list[int] = []
        self._from, self._read = 0, 0
        self._pending = ""
        self.text = ""
        """All that came out."""
        self.stopped = False
        """Whether a stop sequence was found; it and what follows does not come out."""

    def add(self, token: int) -> str:
        """Text that this token makes certain."""
        self._tokens.append(token)
        return self._emit(self._decode(), last=False)

    def end(self) -> str:
        """What is left when no more tokens come."""
        return "" if self.stopped else self._emit(self._decode(last=True), last=True)

    def _decode(self, last: bool = False) -> str:
        """Text of the tokens since the last whole character.

        Tokens are decoded together with those before them, on which it may depend whether a space is shown.
        """
        before = self._tokenizer.decode(self._tokens[self._from : self._read])
        text = self._tokenizer.decode(self._tokens[self._from :])
        if len(text) <= len(before) or (text.endswith(UNFINISHED) and not last):
            return ""
        self._from, self._read = self._read, len(self._tokens)
        return text[len(before) :]

    def _emit(self, new: str, last: bool) -> str:
        self._pending += new
        found = [at for at in map(self._pending.find, self._stop) if at >= 0]
        if found:
            self.stopped, out = True, self._pending[: min(found)]
        else:
            held = 0 if last else max((_overlap(self._pending, stop) for stop in self._stop), default=0)
            out = self._pending[: len(self._pending) - held]
        self._pending = self._pending[len(out) :]
        self.text += out
        return out


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that `stop` begins with."""
    return next((n for n in range(min(len(stop), len(text)), 0, -1) if text.endswith(stop[:n])), 0)
