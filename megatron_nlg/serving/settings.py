"""What the endpoint allows, and where it listens."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from megatron_nlg.config.errors import InputError
from megatron_nlg.serving.address import is_loopback

TOKEN_VARIABLE = "MEGATRON_NLG_SERVE_TOKEN"
MOST_STOPS = 16
"""Stop sequences of a request."""


@dataclass(frozen=True)
class Settings:
    """Of one server."""

    name: str
    """Of the model, as clients know it."""
    host: str = "127.0.0.1"
    port: int = 8000
    """0: any free one."""
    token: str | None = None
    """What clients must show; None: nothing."""
    batch_size: int = 16
    """Texts that are continued together: rows of the cache."""
    length: int = 2048
    """Tokens that a text may have with its prompt."""
    requests: int = 64
    """In hand at once; more are refused."""
    texts: int = 128
    """That one request may ask for: prompts × n."""
    logprobs: int = 20
    """Most probable tokens that may be asked for beside each."""
    body_bytes: int = 4 << 20
    """Of a request."""
    read_seconds: float = 10.0
    """A client has this long to send a request."""
    seconds: float = 600.0
    """An answer may take this long, the wait for its turn included."""
    quiet: bool = False
    """No line a request."""

    def check(self) -> None:
        """Raise InputError for a value that makes no sense, and for an open door."""
        for option, value, least in (
            ("--batch-size", self.batch_size, 1),
            ("--max-length", self.length, 2),
            ("--max-requests", self.requests, 1),
            ("--max-texts", self.texts, 1),
            ("--max-logprobs", self.logprobs, 0),
            ("--max-body-kib", self.body_bytes >> 10, 1),
        ):
            if value < least:
                raise InputError(f"{option} {value}: must be {least} or more")
        for option, seconds in (("--timeout", self.seconds), ("--read-timeout", self.read_seconds)):
            if not 0 < seconds < float("inf"):
                raise InputError(f"{option} {seconds}: must be above 0 seconds")
        if not 0 <= self.port < 2**16:
            raise InputError(f"--port {self.port}: must be from 1 to 65535, or 0 for any free one")
        if self.token is None and not is_loopback(self.host):
            raise InputError(
                f"--host {self.host}: others could use the model; set a token with --token-file FILE or "
                f"{TOKEN_VARIABLE}, or listen on 127.0.0.1"
            )


def read_token(path: Path | None) -> str | None:
    """The token from a file, else from the environment, else None. Raises InputError for one that no header takes."""
    source = str(path) if path else TOKEN_VARIABLE
    try:
        token = path.read_text(encoding="utf-8").strip() if path else os.environ.get(TOKEN_VARIABLE)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--token-file {path}: can't be read ({error}); write a token to it") from None
    if token is not None and not (len(token) >= 8 and token.isascii() and token.isprintable() and " " not in token):
        raise InputError(f"{source}: a token has 8 or more printable ASCII characters and no spaces; choose another")
    return token
