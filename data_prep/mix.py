"""Tokenized sources of several preparations as one blend: `megatron-nlg prep mix`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from data_prep.blend import Blend, BlendSource, BlendTokenizer, write_blend
from data_prep.files import make_folder, read_json
from data_prep.indexed import check_indexed
from data_prep.recipe.blend import BlendRule, blend_problems
from data_prep.recipe.kinds import as_tuple
from data_prep.tokenizer import load_tokenizer
from data_prep.weights import report, weights
from megatron_nlg.config.base import Section, apply_overrides, build, read_yaml
from megatron_nlg.config.errors import ConfigError, InputError, Problem

_MEND = "give the prefix of a .bin and .idx that megatron-nlg prep wrote"


class MixSource(Section):
    """One source of an earlier preparation."""

    tokens: str
    """Prefix of its token files, such as `web/tokens/crawl`; from the current directory."""
    name: str | None = None
    """Name in the blend; the prefix's last part when not given."""
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """Share of the samples, relative to the others' weights; 0 leaves the source out."""

    @property
    def title(self) -> str:
        """Name in the blend."""
        return self.name or Path(self.tokens).name


class Mix(Section):
    """A blend file."""

    out: str
    """Folder for `blend.yaml` and a copy of the tokenizer."""
    sources: Annotated[tuple[MixSource, ...], BeforeValidator(as_tuple), Field(min_length=1)]
    """All by one tokenizer."""
    blend: BlendRule = BlendRule()
    """Where the weights come from."""


def load_mix(path: Path, overrides: Sequence[str] = ()) -> Mix:
    """Read a blend file; raises ConfigError for what is wrong in the file itself."""
    return build(Mix, apply_overrides(read_yaml(path), overrides), str(path))


def mix(settings: Mix, source: str) -> tuple[Blend, dict[str, Any]]:
    """Write the blend; returns it and its report. Raises ConfigError with all problems of paths, weights, tokenizers.

    `source` is named in errors: the blend file.
    """
    found, problems = [], list(_problems(settings))
    for i, entry in enumerate(settings.sources):
        try:
            found.append(_look(entry))
        except InputError as error:
            problems.append(Problem(f"sources.{i}.tokens", str(error), _MEND))
    first = found[0] if found else None
    problems += [
        Problem(
            f"sources ({entry.name})",
            f"{entry.tokens} was made by tokenizer {identity}, and {first[0].tokens} by {first[1]}",
            "a run has one tokenizer: prepare one of them again",
        )
        for entry, identity in found
        if first and identity != first[1]
    ]
    if problems or first is None:
        raise ConfigError(problems, source)
    return _write(settings, [entry for entry, _ in found], _tokenizer_folder(first[0], source))


def _problems(settings: Mix) -> Iterator[Problem]:
    names = [entry.title for entry in settings.sources]
    for i, name in enumerate(names):
        if name in names[:i]:
            yield Problem(f"sources.{i}.name", f"{name!r} is given twice", "names must differ")
    if settings.blend.weights == "given" and not any(entry.weight for entry in settings.sources):
        yield Problem("sources", "all weights are 0", "give at least one source a weight above 0")
    yield from blend_problems(settings.blend, names)


def _look(entry: MixSource) -> tuple[BlendSource, str]:
    """A source's counts and its tokenizer's identity."""
    prefix = Path(entry.tokens).resolve()
    info = check_indexed(prefix)
    identity = str(read_json(prefix.with_name(prefix.name + ".json"), _MEND).get("tokenizer_identity"))
    if not info.tokens:
        raise InputError(f"{prefix}: holds no token")
    counts = {"documents": info.documents, "token_count": info.tokens}
    # The weight is set once all sources are known.
    return BlendSource(name=entry.title, tokens=str(prefix), weight=1.0, **counts), identity


def _tokenizer_folder(source: BlendSource, file: str) -> Path:
    """Where a preparation keeps the tokenizer of its tokens."""
    folder = Path(source.tokens).parent.parent / "tokenizer"
    if not folder.is_dir():
        raise InputError(f"{file}: {folder}: no such folder; a preparation's tokens/ and tokenizer/ lie side by side")
    return folder


def _write(settings: Mix, sources: list[BlendSource], folder: Path) -> tuple[Blend, dict[str, Any]]:
    tokens = {source.name: source.token_count for source in sources}
    given = {entry.title: entry.weight for entry in settings.sources}
    weight = {name: value for name, value in weights(settings.blend, given, tokens).items() if value}
    out, tokenizer = Path(settings.out), load_tokenizer(folder)
    make_folder(out)
    tokenizer.save(out / "tokenizer")
    about = {key: getattr(tokenizer, key) for key in ("kind", "identity", "vocab_size", "eod")}
    blend = Blend(
        tokenizer=BlendTokenizer(path="tokenizer", **about),
        sources=tuple(
            source.model_copy(
                update={"weight": weight[source.name], "tokens": os.path.relpath(source.tokens, out.resolve())}
            )
            for source in sources
            if source.name in weight
        ),
    )
    write_blend(out / "blend.yaml", blend)
    return blend, report(settings.blend, weight, tokens)
