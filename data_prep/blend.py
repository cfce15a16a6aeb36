"""`blend.yaml`: the sources of a prepared corpus, their weights and their tokenizer. What training reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field

from data_prep.files import read_json, write_text_if_changed
from data_prep.indexed import check_indexed
from data_prep.tokenizer import META
from megatron_nlg.config.base import Section, build, read_yaml
from megatron_nlg.config.errors import ConfigError, InputError, Problem

_AGAIN = "prepare the corpus again (megatron-nlg prep run)"


def _tuple(value: Any) -> Any:
    """YAML knows lists only."""
    return tuple(value) if isinstance(value, list) else value


class BlendTokenizer(Section):
    """The tokenizer that made the tokens."""

    path: str
    """Its folder; relative to blend.yaml in the file, absolute once read."""
    kind: Literal["bpe", "huggingface", "sentencepiece", "char"]
    """What load_tokenizer will make of it."""
    identity: str
    """`sha256:…` of kind and content; checkpoints and every source's tokens carry the same."""
    vocab_size: Annotated[int, Field(ge=2)]
    """Entries, the end-of-document token included."""
    eod: Annotated[int, Field(ge=0)]
    """Id of the end-of-document token."""


class BlendSource(Section):
    """One source's tokens."""

    name: str
    """Name in the recipe; validation is reported by it."""
    tokens: str
    """Prefix of the `.bin` and `.idx`; relative to blend.yaml in the file, absolute once read."""
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """Share of the samples, relative to the other sources' weights."""
    documents: Annotated[int, Field(ge=1)]
    """Documents in the token files."""
    token_count: Annotated[int, Field(ge=1)]
    """Tokens in them."""


class Blend(Section):
    """A prepared corpus."""

    tokenizer: BlendTokenizer
    """The one tokenizer of all sources."""
    sources: Annotated[tuple[BlendSource, ...], BeforeValidator(_tuple), Field(min_length=1)]
    """In the recipe's order."""


def write_blend(path: Path, blend: Blend) -> None:
    """Write `blend.yaml`, atomically; paths are written as they are, and should be relative to its folder."""
    write_text_if_changed(path, yaml.safe_dump(blend.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def read_blend(path: Path) -> Blend:
    """Read `blend.yaml` and check everything it names, reading no more than indices; paths come back absolute.

    Raises InputError: all problems at once, for unknown keys, missing or truncated token files, tokens made by another
    tokenizer, counts that contradict the files, and a tokenizer folder that is not the one named.
    """
    blend = build(Blend, read_yaml(path), str(path))
    folder = path.resolve().parent
    tokenizer = blend.tokenizer.model_copy(update={"path": str(folder / blend.tokenizer.path)})
    sources = tuple(s.model_copy(update={"tokens": str(folder / s.tokens)}) for s in blend.sources)
    blend = blend.model_copy(update={"tokenizer": tokenizer, "sources": sources})
    problems = [*_tokenizer_problems(blend.tokenizer), *_source_problems(blend.tokenizer, sources)]
    if problems:
        raise ConfigError(problems, str(path))
    return blend


def _tokenizer_problems(tokenizer: BlendTokenizer) -> Iterator[Problem]:
    meta_path = Path(tokenizer.path) / META
    try:
        meta = read_json(meta_path, _AGAIN)
    except InputError as error:
        yield Problem("tokenizer.path", str(error))
        return
    for key in ("kind", "identity", "vocab_size", "eod"):
        if meta.get(key) != getattr(tokenizer, key):
            yield Problem(
                f"tokenizer.{key}", f"{getattr(tokenizer, key)!r}, but {meta_path} says {meta.get(key)!r}", _AGAIN
            )


def _source_problems(tokenizer: BlendTokenizer, sources: Sequence[BlendSource]) -> Iterator[Problem]:
    for i, source in enumerate(sources):
        key, prefix = f"sources.{i}", Path(source.tokens)
        if source.name in [other.name for other in sources[:i]]:
            yield Problem(f"{key}.name", f"{source.name!r} is given twice", "names must differ")
        try:
            info = check_indexed(prefix)
            about = read_json(prefix.with_name(prefix.name + ".json"), _AGAIN)
        except InputError as error:
            yield Problem(f"{key}.tokens", str(error))
            continue
        for field, value in (("documents", info.documents), ("token_count", info.tokens)):
            if getattr(source, field) != value:
                yield Problem(f"{key}.{field}", f"{getattr(source, field)}, but {prefix}.idx holds {value}", _AGAIN)
        if about.get("tokenizer_identity") != tokenizer.identity:
            yield Problem(
                f"{key}.tokens",
                f"{prefix} was made by tokenizer {about.get('tokenizer_identity')!r}, not by the blend's "
                f"{tokenizer.identity!r}",
                _AGAIN,
            )
