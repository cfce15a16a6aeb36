"""The endpoints over real sockets, with a model that answers as it is told: limits, time-outs, clients that leave."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from typing import Any

import pytest

from data_prep.tokenizer import CharacterTokenizer
from megatron_nlg.generation.sequence import Piece, Result
from megatron_nlg.serving.address import listen
from megatron_nlg.serving.app import Model, build
from megatron_nlg.serving.desk import Desk, Order, Work
from megatron_nlg.serving.errors import ApiError
from megatron_nlg.serving.server import Server
from megatron_nlg.serving.settings import Settings
from tests.job import until

SETTINGS = Settings("toy", port=0, length=50, requests=2, texts=4, body_bytes=2000, read_seconds=0.4, seconds=20.0)
WORDS = CharacterTokenizer("abcdefgh ")


class Toy:
    """Says the prompt's last token max_tokens times, when it may."""

    def __init__(self, desk: Desk):
        self.desk, self.may = desk, threading.Event()
        self.may.set()
        self.works: list[Work] = []
        self.dropped: list[int] = []
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while not (order := self.desk.take(0.02, not self.works)).stop:
            self._take(order)
            while self.works and self.may.is_set():
                self._answer(self.works.pop(0))

    def _take(self, order: Order) -> None:
        self.works += order.new
        self.dropped += order.drop
        self.works = [work for work in self.works if work.index not in order.drop]

    def _answer(self, work: Work) -> None:
        assert work.sampling
        token, count = work.prompt[-1], work.sampling.max_tokens
        text = WORDS.decode([token])
        for number in range(count):
            last = number == count - 1
            result = Result(work.index, [token] * count, text * count, "length") if last else None
            self.desk.post(work.index, Piece(work.index, text, token, None, result))


class Running:
    def __init__(self, settings: Settings):
        self.log, self.desk = io.StringIO(), Desk(settings.requests)
        self.desk.ready = True
        self.toy = Toy(self.desk)
        model = Model(settings, WORDS, WORDS.vocab_size, self.desk)
        self.server = Server(build(model, self.log), settings)
        bound = listen("127.0.0.1", 0)
        self.port = bound.getsockname()[1]
        self.server.start(bound)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON (or text) of an answer."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, data, {"content-type": "application/json", **headers})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        kind = answer.headers["content-type"]
        return answer.status, json.loads(text) if kind == "application/json" else text

    def complete(self, **body: Any) -> tuple[int, Any]:
        return self.ask("POST", "/v1/completions", {"prompt": "abc", "max_tokens": 3, **body})


@contextmanager
def running(**changes: Any) -> Iterator[Running]:
    run = Running(replace(SETTINGS, **changes))
    try:
        yield run
    finally:
        run.desk.signals = 2
        run.toy.thread.join(5)
        run.desk.close(ApiError(503, "over"))
        run.server.stop()


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    with running() as run:
        yield run


def test_an_answer(shared: Running) -> None:
    status, answer = shared.complete(n=2, echo=True)
    assert status == 200 and answer["object"] == "text_completion" and answer["model"] == "toy"
    assert [choice["text"] for choice in answer["choices"]] == ["abcccc"] * 2
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 6, "total_tokens": 9}
    until(lambda: " POST /v1/completions 200 " in shared.log.getvalue(), "a line in the log", 10)


def test_a_stream(shared: Running) -> None:
    status, text = shared.complete(stream=True, echo=True, stream_options={"include_usage": True})
    events = text.removesuffix("\n\n").split("\n\n")
    assert status == 200 and events[-1] == "data: [DONE]"
    parts = [json.loads(event.removeprefix("data: ")) for event in events[:-1]]
    assert "".join(part["choices"][0]["text"] for part in parts[:-1]) == "abcccc"
    assert [part["usage"] for part in parts[:-1]] == [None] * 4 and parts[-1]["choices"] == []
    assert parts[-1]["usage"]["completion_tokens"] == 3
    assert [part["choices"][0]["finish_reason"] for part in parts[:-1]] == [None] * 3 + ["length"]


def test_nothing_to_generate(shared: Running) -> None:
    status, answer = shared.complete(max_tokens=0, echo=True)
    assert (status, answer["choices"][0]["text"], answer["choices"][0]["finish_reason"]) == (200, "abc", "length")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("POST", "/v1/completions", b'{"prompt": "a"', 400, "not valid JSON"),
        ("POST", "/v1/completions", b'{"prompt": "\\ud800"}', 400, "not valid JSON"),
        ("POST", "/v1/completions", b"\xff", 400, "not valid JSON"),
        ("POST", "/v1/completions", b"[" * 1900, 400, "not valid JSON"),
        ("POST", "/v1/completions", b"[1]", 400, "the body is [1]; send a JSON object"),
        ("POST", "/v1/completions", {"prompt": "z"}, 400, 'prompt: "z": character'),
        ("POST", "/v1/completions", {"prompt": "a" * 3000}, 413, "2000 are taken (--max-body-kib)"),
        ("GET", "/v1/completions", None, 405, "method not allowed"),
        ("GET", "/v1/chat", None, 404, "there are POST /v1/completions"),
        ("GET", "/v1/models/gpt-4", None, 404, "no model gpt-4; there is toy"),
        ("POST", "/tokenize", {"prompt": 5}, 400, "prompt: a text is expected"),
        ("POST", "/detokenize", {"tokens": [10**9]}, 400, "numbers from 0 to 9"),
    ],
)
def test_what_is_refused(shared: Running, method: str, path: str, body: Any, status: int, message: str) -> None:
    got, answer = shared.ask(method, path, body)
    assert got == status and {*answer["error"]} == {"message", "type", "param", "code"}
    assert message in answer["error"]["message"]


def test_a_body_of_another_kind(shared: Running) -> None:
    """A web page can make a browser send forms and plain text to this machine's ports, but not JSON."""
    status, answer = shared.ask("POST", "/v1/completions", b'{"prompt": "a"}', **{"content-type": "text/plain"})
    assert status == 415 and "send application/json" in answer["error"]["message"]


def test_a_body_that_is_far_too_large(shared: Running) -> None:
    """Without a length, in parts: the answer still arrives."""
    connection = HTTPConnection("127.0.0.1", shared.port, timeout=30)
    parts = (b"x" * 65536 for _ in range(100))
    connection.request("POST", "/v1/completions", parts, {"content-type": "application/json"}, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def test_the_tokenizer(shared: Running) -> None:
    assert shared.ask("POST", "/tokenize", {"prompt": "cab"})[1]["tokens"] == WORDS.encode("cab")
    assert shared.ask("POST", "/detokenize", {"tokens": WORDS.encode("cab")})[1] == {"prompt": "cab"}
    end = shared.ask("GET", "/tokenizer_info")[1]["eos_token"]
    assert shared.ask("POST", "/tokenize", {"prompt": end})[1]["tokens"] == [WORDS.eod]


def test_the_token() -> None:
    with running(token="correct-horse") as run:
        for shown, status in (("", 401), ("Bearer wrong", 401), ("Basic correct-horse", 401),
                              ("Bearer correct-horse", 200), ("bearer  correct-horse ", 200)):  # fmt: skip
            assert run.ask("GET", "/v1/models", authorization=shown)[0] == status
        assert run.complete()[1]["error"]["code"] == "invalid_api_key"
        assert run.ask("GET", "/health") == (200, {"status": "ok"})


def test_slow_clients() -> None:
    """One whose body does not come, one whose head does not."""
    with running() as run, socket.create_connection(("127.0.0.1", run.port), 10) as body:
        body.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n")
        body.sendall(b"content-length: 100\r\n\r\n{")
        assert body.recv(1000).startswith(b"HTTP/1.1 408 ")
        with socket.create_connection(("127.0.0.1", run.port), 10) as head:
            head.sendall(b"POST /v1/comp")
            time.sleep(0.1)
            head.sendall(b"letions")
            assert head.recv(1000) == b""
        assert run.complete()[0] == 200


def test_too_many_too_long_and_gone() -> None:
    """The third request is refused; what takes too long is answered; what nobody waits for is dropped."""
    with running(seconds=1.0) as run:
        run.toy.may.clear()
        answers: list[tuple[int, Any]] = []
        threads = [threading.Thread(target=lambda: answers.append(run.complete(n=2))) for _ in range(2)]
        for thread in threads:
            thread.start()
        until(lambda: len(run.toy.works) == 4, "two requests", 10)
        status, answer = run.complete()
        assert status == 429 and answer["error"]["type"] == "rate_limit_error"
        assert run.ask("GET", "/ready")[0] == 200
        for thread in threads:
            thread.join()
        assert [status for status, _ in answers] == [504, 504]
        until(lambda: len(run.toy.dropped) == 4 and not run.toy.works, "their end", 10)
        with socket.create_connection(("127.0.0.1", run.port)) as leaving:
            data = b'{"prompt": "a"}'
            leaving.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n")
            leaving.sendall(b"content-length: %d\r\n\r\n%s" % (len(data), data))
            until(lambda: len(run.toy.works) == 1, "a request", 10)
        until(lambda: not run.toy.works, "its end", 10)
        status, text = run.complete(stream=True)
        assert status == 200 and '"code":"timeout"' in text and "[DONE]" not in text
        run.toy.may.set()
        assert run.complete()[0] == 200


def test_the_model_fails_or_is_not_there() -> None:
    with running() as run:
        run.toy.may.clear()
        answers: list[tuple[int, Any]] = []
        thread = threading.Thread(target=lambda: answers.append(run.complete()))
        thread.start()
        until(lambda: len(run.toy.works) == 1, "a request", 10)
        run.desk.close(ApiError(500, "the model has failed", code="failed"))
        thread.join()
        assert answers[0][0] == 500 and answers[0][1]["error"]["type"] == "server_error"
        assert run.complete()[0] == 500 and run.ask("GET", "/health")[0] == 500
    with running() as run:
        run.desk.ready = False
        assert run.complete()[1]["error"]["code"] == "loading" and run.ask("GET", "/ready")[0] == 503
        assert run.ask("GET", "/health") == (200, {"status": "loading"})
