"""`megatron-nlg serve` as a user starts it, asked by OpenAI's client and by lm-evaluation-harness."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import openai
import psutil
import pytest
import torch
from transformers import AutoTokenizer, GPT2LMHeadModel

from megatron_nlg import cli
from tests.job import Job, command, until
from tests.megatron_nlg.serving.model import TEXT, tokenizer, write_model

TOKEN = "a-long-enough-token"


class Served(NamedTuple):
    job: Job
    address: str
    """http://host:port"""

    def client(self, **options: Any) -> openai.OpenAI:
        return openai.OpenAI(**{"base_url": f"{self.address}/v1", "api_key": TOKEN, "max_retries": 0, **options})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_model(tmp_path_factory.mktemp("served"))


def wait(job: Job) -> Served:
    """Until the server says where it is."""
    assert job.process.stdout
    line = job.process.stdout.readline()
    found = re.search(r"at (http://127\.0\.0\.1:\d+)/v1; Ctrl-C ends it", line)
    assert found, line + job.wait()[2]
    return Served(job, found[1])


@pytest.fixture(scope="module")
def served(folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Two tensor ranks, with a token."""
    (token := tmp_path_factory.mktemp("token") / "token").write_text(TOKEN + "\n")
    options = ("--port", "0", "--token-file", token, "--batch-size", "4", "--max-body-kib", "64", "--read-timeout", "2")
    with command("serve", folders[1], *options, "parallel.tensor=2", env={"OMP_NUM_THREADS": "1"}) as job:
        yield wait(job)


@pytest.fixture
def client(served: Served) -> Iterator[openai.OpenAI]:
    with served.client() as client:
        yield client


def greedy(hf: Path, prompt: list[int], count: int) -> list[int]:
    """transformers' own."""
    model = GPT2LMHeadModel.from_pretrained(hf).eval()
    text = torch.tensor([prompt])
    for _ in range(count):
        with torch.no_grad():
            text = torch.cat((text, model(text).logits[:, -1:].argmax(-1)), 1)
    return text[0, len(prompt) :].tolist()


@pytest.mark.slow
def test_greedy_text_is_that_of_transformers(client: openai.OpenAI, folders: tuple[Path, Path]) -> None:
    """As text, as token ids, and as lists of either."""
    words = tokenizer()
    prompts = [TEXT[0], TEXT[1]]
    ids = [words.encode(text) for text in prompts]
    want = [words.decode(greedy(folders[0], prompt, 8)) for prompt in ids]
    for prompt in (prompts, ids):
        done = client.completions.create(model="run", prompt=prompt, max_tokens=8, temperature=0)
        assert [choice.text for choice in done.choices] == want
        assert [(choice.index, choice.finish_reason) for choice in done.choices] == [(0, "length"), (1, "length")]
        assert done.usage and done.usage.prompt_tokens == sum(map(len, ids)) and done.usage.completion_tokens == 16
    for single, text in ((prompts[0], want[0]), (ids[1], want[1])):
        done = client.completions.create(model="run", prompt=single, max_tokens=8, temperature=0)
        assert done.choices[0].text == text
    assert [model.id for model in client.models.list()] == ["run"] and client.models.retrieve("run").id == "run"


@pytest.mark.slow
def test_seeds_and_streams(client: openai.OpenAI) -> None:
    """A seed's draws are the same alone, beside others and streamed; n choices differ."""
    how: dict[str, Any] = {"model": "run", "prompt": TEXT[0], "max_tokens": 12, "seed": 7}
    [alone] = client.completions.create(**how).choices
    several = client.completions.create(**how, n=4).choices
    assert several[0].text == alone.text and len({choice.text for choice in several}) > 1
    texts, reasons, usage = ["", ""], [None, None], None
    for chunk in client.completions.create(**how, n=2, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            reasons[choice.index] = choice.finish_reason or reasons[choice.index]
    assert texts == [choice.text for choice in several[:2]] and None not in reasons
    assert usage and usage.completion_tokens <= 24 and usage.total_tokens > usage.completion_tokens
    fewer = client.completions.create(**how, extra_body={"top_k": 1, "repetition_penalty": 1.0})
    assert fewer.choices[0].text == client.completions.create(**{**how, "temperature": 0}).choices[0].text


@pytest.mark.slow
def test_stop_takes_the_log_probabilities_with_it(client: openai.OpenAI) -> None:
    how: dict[str, Any] = {"model": "run", "prompt": TEXT[1], "max_tokens": 10, "temperature": 0, "logprobs": 2}
    [whole] = client.completions.create(**how).choices
    assert whole.logprobs and whole.logprobs.tokens and whole.logprobs.text_offset
    stop = whole.logprobs.tokens[6]
    end = whole.text.index(stop)
    parts = list(client.completions.create(**how, stop=[stop], stream=True))
    assert "".join(part.choices[0].text for part in parts) == whole.text[:end]
    assert parts[-1].choices[0].finish_reason == "stop"
    kept = [token for part in parts if part.choices[0].logprobs for token in part.choices[0].logprobs.tokens or []]
    assert kept == [t for t, at in zip(whole.logprobs.tokens, whole.logprobs.text_offset, strict=True) if at < end]


@pytest.mark.slow
@pytest.mark.parametrize("max_tokens", [0, 1, 3])
def test_echo_scores_the_prompt(client: openai.OpenAI, folders: tuple[Path, Path], max_tokens: int) -> None:
    words = tokenizer()
    ids = words.encode(TEXT[3])
    asked = client.completions.create(
        model="run", prompt=ids, max_tokens=max_tokens, temperature=0, logprobs=3, echo=True
    )
    [choice] = asked.choices
    with torch.no_grad():
        logits = GPT2LMHeadModel.from_pretrained(folders[0]).eval()(torch.tensor([ids])).logits[0]
    want = torch.log_softmax(logits.double(), -1)
    found = choice.logprobs
    assert found and found.token_logprobs and found.top_logprobs and found.tokens and found.text_offset
    assert choice.text.startswith(TEXT[3]) and choice.finish_reason == "length"
    assert {len(found.token_logprobs), len(found.tokens), len(found.top_logprobs)} == {len(ids) + max_tokens}
    assert found.token_logprobs[0] is None and found.top_logprobs[0] is None
    for at, token in enumerate(ids[1:]):
        assert found.token_logprobs[at + 1] == pytest.approx(float(want[at, token]), abs=1e-3)
        top = found.top_logprobs[at + 1]
        assert top and max(top.values()) == pytest.approx(float(want[at].max()), abs=1e-3)
        assert found.token_logprobs[at + 1] in top.values()
    if max_tokens:
        assert found.token_logprobs[len(ids)] == pytest.approx(float(want[-1].max()), abs=1e-3)
        assert words.encode(choice.text)[: len(ids)] == ids


@pytest.mark.slow
def test_errors_are_openais(served: Served, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="there is no"):
        client.completions.create(model="gpt", prompt="x")
    with pytest.raises(openai.BadRequestError) as bad:
        client.completions.create(model="run", prompt=TEXT[0], max_tokens=96)
    assert bad.value.code == "context_length_exceeded" and bad.value.param == "max_tokens"
    with pytest.raises(openai.BadRequestError) as bad:
        client.completions.create(model="run", prompt="x", extra_body={"tempurature": 1})
    assert bad.value.param == "tempurature" and bad.value.type == "invalid_request_error"
    with pytest.raises(openai.APIStatusError) as large:
        client.completions.create(model="run", prompt="x" * 70_000)
    assert large.value.status_code == 413 and "--max-body-kib" in large.value.message
    with served.client(api_key="another-token-that-is-none") as stranger, pytest.raises(openai.AuthenticationError):
        stranger.models.list()


@pytest.mark.slow
def test_many_at_once(served: Served, client: openai.OpenAI) -> None:
    """More requests than rows of the cache, some of whose clients leave: each gets what it gets alone."""
    alone = {seed: client.completions.create(model="run", prompt=TEXT[seed % 4][:20], max_tokens=20, seed=seed)
             for seed in range(4)}  # fmt: skip

    async def ask(client: openai.AsyncOpenAI, seed: int) -> str:
        done = await client.completions.create(model="run", prompt=TEXT[seed % 4][:20], max_tokens=20, seed=seed)
        return done.choices[0].text

    async def leave(client: openai.AsyncOpenAI) -> None:
        stream = await client.completions.create(model="run", prompt=TEXT[0], max_tokens=60, n=2, stream=True)
        async for _ in stream:
            break
        await stream.close()

    async def everything() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=f"{served.address}/v1", api_key=TOKEN, max_retries=0) as many:
            return await asyncio.gather(*(ask(many, i % 4) for i in range(12)), *(leave(many) for _ in range(3)))

    texts = asyncio.run(everything())[:12]
    assert texts == [alone[i % 4].choices[0].text for i in range(12)]


# ---- lm-evaluation-harness -----------------------------------------------------------------------------------------


def task(folder: Path) -> dict[str, Any]:
    rows = [
        {"query": f"{TEXT[i % 4][: 20 + i]}", "choices": ["the dog", "a river of trees", "width"], "gold": i % 3}
        for i in range(9)
    ]
    path = folder / "task.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "task": "own",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(path)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{query}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{gold}}",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    }


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_lm_eval_scores_as_its_own_model(
    served: Served, folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through local-completions, with the server's tokenizer, and through hf on the converted weights."""
    import lm_eval

    for module in ("tenacity", "accelerate"):
        pytest.importorskip(module, reason="lm-eval's clients of APIs and its hf model need lm-eval[api,hf]")
    for offline in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(offline, "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", TOKEN)
    assert cli.main(["convert", "to-hf", str(folders[1]), str(tmp_path / "hf")]) == 0
    from lm_eval.models.huggingface import HFLM

    hf = GPT2LMHeadModel.from_pretrained(tmp_path / "hf")
    own = HFLM(pretrained=hf, tokenizer=AutoTokenizer.from_pretrained(tmp_path / "hf"), batch_size=3)
    api = f"model=run,base_url={served.address}/v1/completions,max_length=96,batch_size=3,auth_token={TOKEN}"
    found = [
        lm_eval.simple_evaluate(model, args, tasks=[task(tmp_path)], log_samples=True, bootstrap_iters=0)
        for model, args in (("local-completions", api), (own, None))
    ]
    ours, theirs = (
        [[float(response[0]) for response in sample["filtered_resps"]] for sample in result["samples"]["own"]]
        for result in found
    )
    assert torch.tensor(ours).shape == (9, 3)
    assert torch.allclose(torch.tensor(ours), torch.tensor(theirs), atol=1e-3)
    for metric in ("acc,none", "acc_norm,none"):
        assert found[0]["results"]["own"][metric] == found[1]["results"]["own"][metric]


# ---- how it ends ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_second_server_and_the_end_of_the_first(folders: tuple[Path, Path]) -> None:
    """The port is taken; a signal lets what is in hand end, and refuses what comes later."""
    with command("serve", folders[1], "--port", "0", env={"OMP_NUM_THREADS": "1"}) as job:
        served = wait(job)
        port = served.address.rpartition(":")[2]
        with command("serve", folders[1], "--port", port) as second:
            code, out, err = second.wait()
        assert (code, out) == (2, "") and f"--port {port}: Address already in use; choose another" in err
        answers: list[str] = []

        def ask() -> None:
            with served.client() as client:
                done = client.completions.create(model="run", prompt="A", max_tokens=90, n=32, seed=1)
                answers.extend(choice.text for choice in done.choices)

        asking = threading.Thread(target=ask)
        asking.start()
        with served.client() as client:
            until(lambda: psutil.Process(job.ranks()[0]).cpu_percent(0.1) > 20, "work")
            job.process.send_signal(signal.SIGTERM)
            until(lambda: _refused(client), "a refusal")
        asking.join(120)
        assert len(answers) == 32
        code, _, err = job.wait()
        assert code == 0 and " POST /v1/completions 200 " in err and "Traceback" not in err
        assert job.alive() == []


def _refused(client: openai.OpenAI) -> bool:
    try:
        client.completions.create(model="run", prompt="A", max_tokens=1)
    except openai.InternalServerError as error:
        assert error.status_code == 503 and error.code == "draining"
        return True
    except openai.APIConnectionError:
        return True
    return False


@pytest.mark.slow
def test_a_rank_is_killed(folders: tuple[Path, Path]) -> None:
    """Whoever waits hears of it, and the command says which."""
    with command("serve", folders[1], "--port", "0", "parallel.pipeline=2", env={"OMP_NUM_THREADS": "1"}) as job:
        served = wait(job)
        with served.client(timeout=60) as client:
            stream = client.completions.create(model="run", prompt="A", max_tokens=90, n=64, stream=True)
            for number, _ in enumerate(stream):
                if number == 3:
                    os.kill(job.ranks()[1], signal.SIGKILL)
                    break
            with pytest.raises((openai.APIError, httpx.TransportError)):
                list(stream)
        code, _, err = job.wait()
        assert code == 1 and "rank 1 died without a word" in err
        assert job.alive() == []


# ---- what is refused before a rank starts --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0: others could use the model; set a token"),
        (["--host", "nowhere.invalid"], "--host nowhere.invalid: others could use the model"),
        (["--port", "70000"], "--port 70000: must be from 1 to 65535"),
        (["--max-length", "97"], "--max-length 97: the model's sequence (model.sequence_length) is 96"),
        (["--batch-size", "0"], "--batch-size 0: must be 1 or more"),
        (["--timeout", "nan"], "--timeout nan: must be above 0"),
        (["--token-file", "/none"], "--token-file /none: can't be read"),
        (["parallel.tensor=3"], "parallel.tensor 3"),
    ],
)
def test_bad_options(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert cli.main(["serve", str(folders[1]), *options]) == 2
    assert message in capsys.readouterr().err


def test_a_taken_port(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert cli.main(["serve", str(folders[1]), "--port", str(port)]) == 2
    assert f"--port {port}: Address already in use" in capsys.readouterr().err


def test_not_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", str(tmp_path)]) == 2
    assert f"{tmp_path}: has no config.yaml" in capsys.readouterr().err
