"""Requests: what is understood, and that nothing else passes or breaks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.tokenizer import CharacterTokenizer
from megatron_nlg.generation.sampling import Sampling
from megatron_nlg.serving.errors import ApiError
from megatron_nlg.serving.protocol import Body, Completion, parse
from megatron_nlg.serving.settings import Settings

SETTINGS = Settings("toy", length=20, texts=6, logprobs=5)
WORDS = CharacterTokenizer("abc ")


def read(**body: Any) -> Completion:
    return parse(json.dumps(body).encode(), SETTINGS, WORDS, WORDS.vocab_size)


def refused(**body: Any) -> ApiError:
    with pytest.raises(ApiError) as error:
        read(**body)
    assert error.value.status in (400, 404)
    return error.value


def test_defaults_are_openais() -> None:
    asked = read(prompt="abc", model="toy", seed=4, user="me", best_of=None, logit_bias={}, stop=None)
    assert asked.texts() == [([0, 1, 2], Sampling(1.0, 1.0, 16, 4), None)]
    assert (asked.n, asked.echo, asked.stream, asked.choices) == (1, False, False, 1)
    assert read(prompt="a" * 15).max_tokens == [5]  # what is left
    assert read(prompt="a").sampling.seed != read(prompt="a").sampling.seed


def test_every_choice_has_a_seed_that_does_not_depend_on_other_prompts() -> None:
    texts = read(prompt=["a", "b"], n=3, seed=9, logprobs=2, echo=True, max_tokens=2).texts()
    assert [how.seed for _, how, _ in texts if how] == [9, 10, 11] * 2
    assert [(prompt, top) for prompt, _, top in texts] == [([0], 2)] * 3 + [([1], 2)] * 3


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [
        ("", [[4]]),
        (["a", ""], [[0], [4]]),
        ([0, 4, 1], [[0, 4, 1]]),
        ([[0], [1, 2]], [[0], [1, 2]]),
    ],
)
def test_prompts(prompt: Any, tokens: list[list[int]]) -> None:
    assert [found.tokens for found in read(prompt=prompt, max_tokens=1).prompts] == tokens


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({}, "prompt", "prompt: is missing"),
        ({"prompt": []}, "prompt", "prompt: []: must be a text"),
        ({"prompt": [[]]}, "prompt", "has no tokens"),
        ({"prompt": ["a", 1]}, "prompt", "must be a text"),
        ({"prompt": [True]}, "prompt", "must be a text"),
        ({"prompt": [5]}, "prompt", "prompt: 5: there are tokens 0 to 4"),
        ({"prompt": "ax"}, "prompt", "'x' is not one of the tokenizer's"),
        ({"prompt": "a" * 20}, "prompt", "21: 20 of the prompt, 1 of the completion"),
        ({"prompt": "a", "max_tokens": 20}, "max_tokens", "a text may have 20 tokens"),
        ({"prompt": "a", "max_tokens": 1.5}, "max_tokens", "max_tokens: 1.5: input should be a valid integer"),
        ({"prompt": "a", "max_tokens": True}, "max_tokens", "valid integer"),
        ({"prompt": "a", "temperature": -1}, "temperature", "temperature: -1: input should be greater than"),
        ({"prompt": "a", "temperature": float("nan")}, "temperature", "temperature: NaN"),
        ({"prompt": "a", "top_p": 0}, "top_p", "top_p: 0"),
        ({"prompt": "a", "top_k": -1}, "top_k", "top_k: -1"),
        ({"prompt": "a", "repetition_penalty": 0}, "repetition_penalty", "repetition_penalty: 0"),
        ({"prompt": "a", "n": 7}, "n", "1 prompts × n 7 are more than 6 texts"),
        ({"prompt": ["a"] * 7}, "prompt", "7 prompts × n 1 are more than 6 texts"),
        ({"prompt": "a", "logprobs": 6}, "logprobs", "logprobs: 6: at most 5"),
        ({"prompt": "a", "seed": -1}, "seed", "seed: -1"),
        ({"prompt": "a", "stop": ""}, "stop", 'stop: "": give up to 16 texts'),
        ({"prompt": "a", "stop": [1]}, "stop", "stop: [1]: must be a text or a list of texts"),
        ({"prompt": "a", "stream": "yes"}, "stream", 'stream: "yes": input should be a valid boolean'),
        ({"prompt": "a", "stream_options": {}}, "stream_options", "only with stream true"),
        ({"prompt": "a", "stream": True, "stream_options": {"x": 1}}, "stream_options.x", "one of include_usage"),
        ({"prompt": "a", "best_of": 2}, "best_of", "best_of: 2: is not supported"),
        ({"prompt": "a", "logit_bias": {"1": 5}}, "logit_bias", "is not supported"),
        ({"prompt": "a", "messages": []}, "messages", "messages: []: there is no such field"),
        ({"prompt": "a", "model": "gpt"}, "model", 'there is no "gpt"; there is "toy"'),
    ],
)
def test_what_is_wrong_is_named(body: dict[str, Any], param: str, message: str) -> None:
    error = refused(**body)
    assert error.param == param and message in error.message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from(sorted(Body.model_fields)), JSON))
def test_any_json_is_a_request_or_an_error(body: dict[str, Any]) -> None:
    try:
        asked = read(**body)
    except ApiError as error:
        assert error.status in (400, 404) and error.message and json.dumps(error.body()).encode()
        return
    for prompt, how, top in asked.texts():
        assert prompt and len(prompt) + (how.max_tokens if how else 0) <= SETTINGS.length
        assert how is None or (how.check() is None and how.logprobs in (None, *range(6)))
        assert (top is not None) == (asked.echo and asked.sampling.logprobs is not None)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_request_or_an_error(data: bytes) -> None:
    with pytest.raises(ApiError) as error:
        parse(data, SETTINGS, WORDS, WORDS.vocab_size)
    assert error.value.status == 400
