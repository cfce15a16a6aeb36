"""A completions request: read, checked, and turned into texts for the model."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data_prep.tokenizer import Tokenizer
from megatron_nlg.config.errors import InputError
from megatron_nlg.generation.sampling import Sampling
from megatron_nlg.serving.errors import ApiError
from megatron_nlg.serving.settings import MOST_STOPS, Settings

SEEDS = 2**62
"""Seeds that are drawn for requests without one, and the largest that a request may name."""
DEFAULT_TOKENS = 16
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class StreamOptions(BaseModel):
    """Of a stream."""

    model_config = ConfigDict(extra="forbid", strict=True)
    include_usage: bool = False
    """Whether the last event but [DONE] counts tokens."""


class Body(BaseModel):
    """What a client may ask for, as OpenAI's API names it, and two fields more. Null is the same as leaving it out."""

    model_config = ConfigDict(extra="forbid", strict=True)
    prompt: Any
    """Text, texts, token ids, or lists of them."""
    model: str | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    """Ours: only so many of the most probable tokens; 0: all."""
    repetition_penalty: Positive = 1.0
    """Ours."""
    n: Annotated[int, Field(ge=1)] = 1
    stop: str | list[str] = Field(default_factory=list)
    seed: Annotated[int, Field(ge=0, lt=SEEDS)] | None = None
    echo: bool = False
    logprobs: Annotated[int, Field(ge=0)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = None
    """Not used."""
    # These change nothing at the values that clients send unasked; others are refused.
    best_of: int | None = None
    frequency_penalty: float = 0
    presence_penalty: float = 0
    logit_bias: dict[str, float] = Field(default_factory=dict)
    suffix: str = ""


@dataclass(frozen=True)
class Prompt:
    """One of a request's."""

    text: str | None
    """None: it came as token ids."""
    tokens: list[int]


@dataclass(frozen=True)
class Completion:
    """A request that can be answered. Choice i is the (i mod n)-th continuation of prompt i // n."""

    prompts: list[Prompt]
    n: int
    max_tokens: list[int]
    """Of each prompt's continuations; 0: nothing is generated."""
    sampling: Sampling
    """Of the first choice of a prompt; the others' seeds follow."""
    echo: bool
    stream: bool
    usage_in_stream: bool

    @property
    def choices(self) -> int:
        """Texts that come back."""
        return len(self.prompts) * self.n

    def texts(self) -> list[tuple[list[int], Sampling | None, int | None]]:
        """(prompt, sampling, top) of each choice, as the desk takes them."""
        top = self.sampling.logprobs if self.echo else None
        found = []
        for prompt, most in zip(self.prompts, self.max_tokens, strict=True):
            for number in range(self.n):
                how = replace(self.sampling, seed=self.sampling.seed + number, max_tokens=most) if most else None
                found.append((prompt.tokens, how, top))
        return found


def parse(data: bytes, settings: Settings, tokenizer: Tokenizer, entries: int) -> Completion:
    """Raises ApiError, 400 or 404, that names the field, the value and the mend. `entries`: tokens that there are."""
    body = _body(data)
    if body.model is not None and body.model != settings.name:
        what = f"model: there is no {show(body.model)}; there is {show(settings.name)}"
        raise ApiError(404, what, "model", "model_not_found")
    _refuse_unsupported(body)
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop)
    if not all(stop) or len(stop) > MOST_STOPS:
        raise _bad("stop", body.stop, f"give up to {MOST_STOPS} texts that are not empty")
    if body.logprobs is not None and body.logprobs > min(settings.logprobs, entries):
        raise _bad("logprobs", body.logprobs, f"at most {min(settings.logprobs, entries)} are given")
    if body.stream_options and not body.stream:
        raise ApiError(400, "stream_options: only with stream true; leave it out", "stream_options")
    prompts = [_tokens(prompt, tokenizer, entries) for prompt in _prompts(body.prompt)]
    if len(prompts) * body.n > settings.texts:
        what = f"{len(prompts)} prompts × n {body.n} are more than {settings.texts} texts; send fewer in a request"
        raise ApiError(400, what, "n" if body.n > 1 else "prompt")
    seed = secrets.randbelow(SEEDS) if body.seed is None else body.seed
    how = Sampling(
        body.temperature, body.top_p, 1, seed, body.top_k, body.repetition_penalty, stop, logprobs=body.logprobs
    )
    most = [_max_tokens(body.max_tokens, prompt, settings) for prompt in prompts]
    include = body.stream_options is not None and body.stream_options.include_usage
    return Completion(prompts, body.n, most, how, body.echo, body.stream, include)


def show(value: Any) -> str:
    """A value of a client's, shortened."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "…"


def _bad(field: str, value: Any, mend: str) -> ApiError:
    return ApiError(400, f"{field}: {show(value)}: {mend}", field)


def read_json(data: bytes) -> dict[str, Any]:
    """An object. Raises ApiError for anything else."""
    try:
        tree = json.loads(data.decode("utf-8"))
        json.dumps(tree, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"the body is not valid JSON: {error}") from None
    if not isinstance(tree, dict):
        raise ApiError(400, f"the body is {show(tree)}; send a JSON object")
    return tree


def _body(data: bytes) -> Body:
    tree = {key: value for key, value in read_json(data).items() if value is not None}
    try:
        return Body.model_validate(tree)
    except ValidationError as error:
        raise _explained(error, tree) from None


def _explained(error: ValidationError, tree: Mapping[str, Any]) -> ApiError:
    """The first problem, in the words of this API."""
    problem = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in problem["loc"] if isinstance(part, str) and not part.startswith("list["))
    top = str(problem["loc"][0])
    if problem["type"] == "missing":
        return ApiError(400, f"{field}: is missing; give a text, token ids, or a list of either", field)
    if problem["type"] == "extra_forbidden":
        what = f"{field}: {show(problem['input'])}: there is no such field; leave it out"
        known = StreamOptions.model_fields if top == "stream_options" and field != top else Body.model_fields
        return ApiError(400, f"{what}, or use one of {', '.join(sorted(known))}", field, "unknown_field")
    if top == "stop":
        return _bad("stop", tree["stop"], "must be a text or a list of texts")
    return _bad(field, problem["input"], problem["msg"][0].lower() + problem["msg"][1:])


def _refuse_unsupported(body: Body) -> None:
    for field, good in (
        ("best_of", body.best_of in (None, body.n)),
        ("frequency_penalty", body.frequency_penalty == 0),
        ("presence_penalty", body.presence_penalty == 0),
        ("logit_bias", not body.logit_bias),
        ("suffix", not body.suffix),
    ):
        if not good:
            raise _bad(field, getattr(body, field), "is not supported; leave it out (there is repetition_penalty)")


# ---- prompts -----------------------------------------------------------------------------------------------------


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int for item in value)


def _prompts(value: Any) -> list[str | list[int]]:
    if isinstance(value, str) or (_is_ids(value) and value):
        return [value]
    if isinstance(value, list) and value and (all(isinstance(v, str) for v in value) or all(map(_is_ids, value))):
        return value
    raise _bad("prompt", value, "must be a text, token ids, or a list of either that is not empty")


def _tokens(prompt: str | list[int], tokenizer: Tokenizer, entries: int) -> Prompt:
    if isinstance(prompt, str):
        try:
            return Prompt(prompt, tokenizer.encode(prompt) or [tokenizer.eod])
        except InputError as error:
            raise _bad("prompt", prompt, str(error)) from None
    if not prompt:
        raise _bad("prompt", prompt, f"has no tokens; a document starts with [{tokenizer.eod}]")
    if bad := [token for token in prompt if not 0 <= token < entries]:
        raise _bad("prompt", bad[0], f"there are tokens 0 to {entries - 1}")
    return Prompt(None, prompt)


def _max_tokens(asked: int | None, prompt: Prompt, settings: Settings) -> int:
    """Raises ApiError when prompt and continuation are longer than a text may be."""
    size, longest = len(prompt.tokens), settings.length
    wanted = min(DEFAULT_TOKENS, max(1, longest - size)) if asked is None else asked
    if size + wanted > longest:
        what = (
            f"a text may have {longest} tokens, and this one would have {size + wanted}: {size} of the prompt, "
            f"{wanted} of the completion (max_tokens); shorten one of them"
        )
        raise ApiError(400, what, "prompt" if size >= longest else "max_tokens", "context_length_exceeded")
    return wanted
