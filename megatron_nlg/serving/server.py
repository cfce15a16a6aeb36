"""The HTTP server: uvicorn in a thread of its own beside the model's loop."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from data_prep.tokenizer import Tokenizer
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.parallel.supervisor import Terminal
from megatron_nlg.serving.address import listen, url_of
from megatron_nlg.serving.app import Model, build
from megatron_nlg.serving.desk import Desk
from megatron_nlg.serving.errors import ApiError
from megatron_nlg.serving.settings import Settings

HEADER_BYTES = 64 << 10
LAST_ANSWERS_SECONDS = 5
"""Clients have this long to read what is ready when the server ends."""
FAILED_SECONDS = 1.0
"""The same when a rank has failed: the supervisor ends this one soon."""


class Server:
    """Serves from `start` to `stop`."""

    def __init__(self, app: ASGIApp, settings: Settings):
        seconds = settings.read_seconds

        class Protocol(H11Protocol):
            """Connections over which no request comes in time are closed: uvicorn waits for its head for ever."""

            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
                super().connection_made(transport)
                self.loop.call_later(seconds, self._check)

            def _check(self) -> None:
                if not self.cycle:
                    self.transport.close()

        config = uvicorn.Config(
            app,
            http=Protocol,
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            h11_max_incomplete_event_size=HEADER_BYTES,
            timeout_graceful_shutdown=LAST_ANSWERS_SECONDS,
        )
        self.server = uvicorn.Server(config)

    def start(self, bound: socket.socket) -> None:
        """Serve from now on."""
        self.thread = threading.Thread(target=self.server.run, args=([bound],), name="server", daemon=True)
        self.thread.start()

    def stop(self, seconds: float = LAST_ANSWERS_SECONDS + 1) -> None:
        """Let answers that are ready be read, for so long at most."""
        self.server.should_exit = True
        self.thread.join(seconds)


@contextmanager
def front(config: RunConfig, settings: Settings, tokenizer: Tokenizer, desk: Desk, terminal: Terminal) -> Iterator[str]:
    """The server, from before the model is loaded until its last answer; yields its address."""
    bound = listen(settings.host, settings.port)
    entries = min(config.model.vocab_size, tokenizer.vocab_size)
    app = build(Model(settings, tokenizer, entries, desk), None if settings.quiet else terminal.err)
    server = Server(app, settings)
    server.start(bound)
    try:
        yield url_of(bound)
    except BaseException:
        desk.close(ApiError(500, "the model has failed; the server's terminal says why", code="failed"))
        server.stop(FAILED_SECONDS)
        raise
    desk.close(ApiError(503, "the server has been stopped", code="stopped"))
    server.stop()
