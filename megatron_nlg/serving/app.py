"""The endpoints: who may ask, how much, how long; and the way of a request through the desk."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable
from typing import IO, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from data_prep.tokenizer import Tokenizer
from megatron_nlg.config.errors import InputError
from megatron_nlg.generation.scoring import Score
from megatron_nlg.serving.choice import Choice
from megatron_nlg.serving.desk import Desk, Ticket
from megatron_nlg.serving.errors import ApiError
from megatron_nlg.serving.protocol import Completion, parse, read_json
from megatron_nlg.serving.settings import Settings

OPEN = ("/health", "/ready")
"""Paths that need no token: they tell nothing of the model."""
PATIENCE_BYTES = 64 << 20
"""Of a body that is too large, so much is read and thrown away, that the client may hear the answer."""


class Model:
    """What the endpoints know of the model."""

    def __init__(self, settings: Settings, tokenizer: Tokenizer, entries: int, desk: Desk):
        self.settings, self.tokenizer, self.entries, self.desk = settings, tokenizer, entries, desk
        self.created = int(time.time())

    def about(self) -> dict[str, Any]:
        """The model as OpenAI's API lists it."""
        about = {"id": self.settings.name, "object": "model", "created": self.created, "owned_by": "megatron_nlg"}
        return about | {"max_model_len": self.settings.length}


def build(model: Model, log: IO[str] | None) -> ASGIApp:
    """The application; `log` gets a line a request."""
    served = Endpoints(model)
    routes = [
        Route("/v1/completions", Completions(model)),
        Route("/v1/models", served.models),
        Route("/v1/models/{name}", served.model_named),
        Route("/health", served.health),
        Route("/ready", served.ready),
        Route("/tokenize", served.tokenize, methods=["POST"]),
        Route("/detokenize", served.detokenize, methods=["POST"]),
        Route("/tokenizer_info", served.tokenizer_info),
    ]
    handlers: dict[Any, Any] = {HTTPException: _http_error, ApiError: _api_error, Exception: _unforeseen}
    return Door(Starlette(routes=routes, exception_handlers=handlers), model.settings.token, log)


class Door:
    """Lets in who shows the token, and writes the log."""

    def __init__(self, app: ASGIApp, token: str | None, log: IO[str] | None):
        self.app, self.token, self.log = app, token, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        start, status = time.monotonic(), 0

        async def watched(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            if self._may_enter(scope):
                await self.app(scope, receive, watched)
            else:
                what = "no or another token; send the header `Authorization: Bearer TOKEN`"
                await respond(ApiError(401, what, code="invalid_api_key"))(scope, receive, watched)
        finally:
            if self.log and scope["path"] not in OPEN:
                client = (scope.get("client") or ("?",))[0]
                took = f"{time.monotonic() - start:.3f} s"
                with contextlib.suppress(OSError, ValueError):  # nobody reads it
                    print(client, scope["method"], scope["path"], status or "gone", took, file=self.log, flush=True)

    def _may_enter(self, scope: Scope) -> bool:
        if self.token is None or scope["path"] in OPEN:
            return True
        shown = dict(scope["headers"]).get(b"authorization", b"")
        kind, _, token = shown.partition(b" ")
        return hmac.compare_digest(token.strip(), self.token.encode()) and kind.lower() == b"bearer"


def respond(error: ApiError) -> Response:
    """An error as an answer."""
    return JSONResponse(error.body(), error.status, error.headers())


async def _http_error(request: Request, error: HTTPException) -> Response:
    what = (
        f"{request.method} {request.url.path}: {error.detail.lower()}; there are POST /v1/completions, GET /v1/models"
    )
    return respond(ApiError(error.status_code, what))


async def _api_error(request: Request, error: ApiError) -> Response:
    return respond(error)


async def _unforeseen(request: Request, error: Exception) -> Response:
    return respond(ApiError(500, f"the server failed ({type(error).__name__}); its log has more"))


# ---- small ones --------------------------------------------------------------------------------------------------


class Endpoints:
    """All but completions."""

    def __init__(self, model: Model):
        self.model = model

    async def models(self, request: Request) -> Response:
        """GET /v1/models."""
        return JSONResponse({"object": "list", "data": [self.model.about()]})

    async def model_named(self, request: Request) -> Response:
        """GET /v1/models/NAME."""
        name = request.path_params["name"]
        if name != self.model.settings.name:
            what = f"there is no model {name}; there is {self.model.settings.name}"
            raise ApiError(404, what, "model", "model_not_found")
        return JSONResponse(self.model.about())

    async def health(self, request: Request) -> Response:
        """GET /health: whether the server lives."""
        state = self.model.desk.state
        return JSONResponse({"status": state}, 500 if state == "failed" else 200)

    async def ready(self, request: Request) -> Response:
        """GET /ready: whether it takes requests."""
        state = self.model.desk.state
        return JSONResponse({"status": state}, 200 if state == "ok" else 503)

    # As vLLM has them: lm-evaluation-harness then needs no tokenizer of its own.

    async def tokenizer_info(self, request: Request) -> Response:
        """GET /tokenizer_info."""
        end = self.model.tokenizer.decode([self.model.tokenizer.eod])
        return JSONResponse({"eos_token": end, "bos_token": end, "pad_token": end})

    async def tokenize(self, request: Request) -> Response:
        """POST /tokenize {"prompt"}."""
        tree = read_json(await read_body(request, self.model.settings))
        text, tokenizer = tree.get("prompt"), self.model.tokenizer
        if not isinstance(text, str):
            raise ApiError(400, "prompt: a text is expected", "prompt")
        end = tokenizer.decode([tokenizer.eod])
        try:
            tokens = [tokenizer.eod] if text == end else tokenizer.encode(text)
        except InputError as error:
            raise ApiError(400, f"prompt: {error}", "prompt") from None
        return JSONResponse({"tokens": tokens, "count": len(tokens), "max_model_len": self.model.settings.length})

    async def detokenize(self, request: Request) -> Response:
        """POST /detokenize {"tokens"}."""
        tokens = read_json(await read_body(request, self.model.settings)).get("tokens")
        if not isinstance(tokens, list) or not all(type(t) is int and 0 <= t < self.model.entries for t in tokens):
            raise ApiError(400, f"tokens: a list of numbers from 0 to {self.model.entries - 1} is expected", "tokens")
        return JSONResponse({"prompt": self.model.tokenizer.decode(tokens)})


async def read_body(request: Request, settings: Settings) -> bytes:
    """The body. Raises ApiError when it is none of JSON (415), too large (413) or too slow (408)."""
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "application/json":  # a form of any web page could send other kinds
        raise ApiError(415, f"content-type: {kind or 'none'}; send application/json")
    data, size, most = bytearray(), int(request.headers.get("content-length", "0")), settings.body_bytes
    try:
        async with asyncio.timeout(settings.read_seconds):
            read = 0
            async for part in request.stream():
                read += len(part)
                if read <= most:
                    data += part
                elif read > PATIENCE_BYTES:
                    break
    except TimeoutError:
        raise ApiError(408, f"the body did not come within {settings.read_seconds:g} s (--read-timeout)") from None
    if read > most:
        what = f"the body has {max(size, read)} bytes, and {most} are taken (--max-body-kib); send less in a request"
        raise ApiError(413, what)
    return bytes(data)


# ---- completions -------------------------------------------------------------------------------------------------


class Completions:
    """POST /v1/completions."""

    def __init__(self, model: Model):
        self.model = model

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["method"] != "POST":
            raise HTTPException(405)
        settings, desk = self.model.settings, self.model.desk
        try:
            data = await read_body(Request(scope, receive), settings)
            parsing = asyncio.to_thread(parse, data, settings, self.model.tokenizer, self.model.entries)
            asked = await parsing
            works = [(number, text) for number, text in enumerate(asked.texts()) if text[1] or text[2] is not None]
            ticket = desk.submit([text for _, text in works])
        except ClientDisconnect:
            return
        answer = Answer(self.model, asked, ticket, [number for number, _ in works])
        try:
            await _while_there(receive, answer.send(scope, receive, send))
        finally:
            desk.release(ticket)


async def _while_there(receive: Receive, work: Awaitable[None]) -> None:
    """Do something, and stop when the client goes."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    leaving, task = asyncio.ensure_future(gone()), asyncio.ensure_future(work)
    try:
        await asyncio.wait({leaving, task}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        leaving.cancel()
        task.cancel()
        await asyncio.gather(leaving, task, return_exceptions=True)


class Answer:
    """What is sent for one request."""

    def __init__(self, model: Model, asked: Completion, ticket: Ticket, numbers: list[int]):
        self.model, self.asked, self.ticket = model, asked, ticket
        self.choice_of = {work.index: number for work, number in zip(ticket.works, numbers, strict=True)}
        logprobs = asked.sampling.logprobs is not None
        self.choices = [
            Choice(asked.prompts[number // asked.n], model.tokenizer, asked.echo, logprobs)
            for number in range(asked.choices)
        ]
        self.scored = asked.echo and logprobs
        self.head = {"id": f"cmpl-{secrets.token_hex(12)}", "object": "text_completion", "created": int(time.time())}
        self.head["model"] = model.settings.name

    async def send(self, scope: Scope, receive: Receive, send: Send) -> None:
        """All of it, or an error, within the time that there is."""
        seconds, started = self.model.settings.seconds, False

        async def starting(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            async with asyncio.timeout(seconds):
                await (self._stream if self.asked.stream else self._whole)(scope, receive, starting)
            return
        except TimeoutError:
            error = ApiError(504, f"no answer within {seconds:g} s (--timeout); ask for less at once", code="timeout")
        except ApiError as raised:
            error = raised
        if not started:
            await respond(error)(scope, receive, send)
        elif self.asked.stream:
            await send({"type": "http.response.body", "body": _event(error.body())})

    async def _whole(self, scope: Scope, receive: Receive, send: Send) -> None:
        texts = [""] * len(self.choices)
        logprobs: list[dict[str, list[Any]] | None] = [None] * len(self.choices)
        async for number, text, found in self._parts():
            texts[number] += text
            before = logprobs[number]
            if found is not None:
                logprobs[number] = {name: before[name] + new for name, new in found.items()} if before else found
        choices = [
            {"index": number, "text": text, "logprobs": logprobs[number], "finish_reason": choice.finish_reason}
            for number, (text, choice) in enumerate(zip(texts, self.choices, strict=True))
        ]
        await JSONResponse(self.head | {"choices": choices, "usage": self._usage()})(scope, receive, send)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Server-sent events, the last one [DONE]."""
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        counts: dict[str, Any] = {"usage": None} if self.asked.usage_in_stream else {}

        async def tell(data: bytes) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": True})

        async for number, text, found in self._parts():
            reason = self.choices[number].finish_reason
            if text or found is not None or reason:
                choice = {"index": number, "text": text, "logprobs": found, "finish_reason": reason}
                await tell(_event(self.head | {"choices": [choice]} | counts))
        if counts:
            await tell(_event(self.head | {"choices": [], "usage": self._usage()}))
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    async def _parts(self) -> AsyncIterator[tuple[int, str, dict[str, list[Any]] | None]]:
        """(choice, text, log-probabilities) as they come, until all choices have ended."""
        if not self.scored:
            for number, choice in enumerate(self.choices):
                if not self.asked.max_tokens[number // self.asked.n]:
                    choice.finish_reason = "length"
                yield number, *choice.head(None)
        left = set(self.choice_of)
        while left:
            index, event = await self.ticket.next()
            number = self.choice_of[index]
            choice = self.choices[number]
            if isinstance(event, Score):
                if not self.asked.max_tokens[number // self.asked.n]:
                    choice.finish_reason = "length"
                yield number, *choice.head(event)
            else:
                yield number, *choice.take(event)
            if choice.finish_reason:
                left.discard(index)

    def _usage(self) -> dict[str, int]:
        prompt = sum(len(prompt.tokens) for prompt in self.asked.prompts)
        generated = sum(choice.completion_tokens for choice in self.choices)
        return {"prompt_tokens": prompt, "completion_tokens": generated, "total_tokens": prompt + generated}


def _event(value: Any) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
