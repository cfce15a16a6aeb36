"""What a run will read: its sources, the mixtures they are drawn in, and its validation sets. Pure description."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.blend import Blend, BlendSource, BlendTokenizer, read_blend
from data_prep.files import read_json
from data_prep.indexed import check_indexed
from megatron_nlg.config.errors import ConfigError, InputError, Problem
from megatron_nlg.config.schema import RunConfig, Stage
from megatron_nlg.data.clock import TokenClock


@dataclass(frozen=True)
class Mixture:
    """Sources and the share of the samples that each gives."""

    shares: dict[str, float]
    """Source -> share; they sum to 1."""
    first: int = 0
    """Its first sample, counted from the start of training."""
    samples: int = 0
    """How many of its samples are read."""
    room: int = 0
    """How many there would be without a later mixture; orders depend on this, so that adding one changes nothing."""


@dataclass(frozen=True)
class Plan:
    """What to build, the same on every rank."""

    tokenizer: BlendTokenizer
    sources: dict[str, BlendSource]
    """Name -> token files and their counts, of all stages; the weight is that of the first stage it occurs in."""
    stages: tuple[Mixture, ...]
    identity: dict[str, Any]
    """Setting -> value of all that the order of samples depends on (`identity.py` compares it)."""
    validation: dict[str, Mixture]
    """Further validation sets."""
    validation_tokens: dict[str, dict[str, str]]
    """Their sources' token files: set -> source -> prefix."""
    split: tuple[float, float]
    sequence_length: int
    seed: int
    valid_samples: int
    """Samples of each validation set."""
    index: Path
    """Folder of the sample indices."""

    @property
    def train_samples(self) -> int:
        """Samples of all stages: training, and one more step."""
        return self.stages[-1].first + self.stages[-1].samples


def make_plan(config: RunConfig, run_folder: Path | None) -> Plan:
    """Read the blends and hold them against the config; raises InputError when they do not fit.

    `run_folder` is where indices go without data.index_cache.
    """
    if config.data.blend is None:
        raise InputError("data.blend: is required to train; set it to a prepared corpus's blend.yaml")
    blends = {path: read_blend(Path(path)) for path in _blend_paths(config)}
    tokenizer = blends[config.data.blend].tokenizer
    _check_tokenizers(config, blends, tokenizer)
    mixtures = [(stage.from_tokens, _sources(config, stage, blends)) for stage in _stages(config)]
    sources: dict[str, BlendSource] = {}
    for _, mixed in mixtures:
        for source in mixed:
            known = sources.setdefault(source.name, source)
            if known.tokens != source.tokens:
                raise InputError(
                    f"data.stages: source {source.name} is {known.tokens} in one stage and {source.tokens} in "
                    "another; sources of one run need names that differ"
                )
    valid_samples = config.evaluation.batches * config.batch.global_
    extra = _validation(config, tokenizer, sources) if valid_samples else {}
    stages = tuple(_mixtures(config, mixtures))
    plan = Plan(
        tokenizer=tokenizer,
        sources=sources,
        stages=stages,
        identity=_identity(config, tokenizer, mixtures),
        validation={name: Mixture(_shares(s), 0, valid_samples, valid_samples) for name, s in extra.items()},
        validation_tokens={name: {s.name: s.tokens for s in entries} for name, entries in extra.items()},
        split=config.data.split,
        sequence_length=config.model.sequence_length,
        seed=config.seed % 2**32,  # numpy's range
        valid_samples=valid_samples,
        index=Path(),
    )
    folder = Path(config.data.index_cache) if config.data.index_cache else (run_folder or Path()) / "data_index"
    return Plan(**{**vars(plan), "index": folder.resolve() / _fingerprint(plan)})


def _blend_paths(config: RunConfig) -> list[str]:
    """All that training reads."""
    stages = [stage.blend for stage in config.data.stages if stage.blend]
    return list(dict.fromkeys([str(config.data.blend), *stages]))


def _stages(config: RunConfig) -> tuple[Stage, ...]:
    """From the first token on: data.blend as it is until the first stage begins."""
    stages = config.data.stages
    return stages if stages and stages[0].from_tokens == 0 else (Stage(from_tokens=0), *stages)


def _check_tokenizers(config: RunConfig, blends: Mapping[str, Blend], tokenizer: BlendTokenizer) -> None:
    if config.model.vocab_size != tokenizer.vocab_size:
        raise InputError(
            f"model.vocab_size: {config.model.vocab_size} in the run config, but the tokenizer of "
            f"{config.data.blend} has {tokenizer.vocab_size} entries; set model.vocab_size={tokenizer.vocab_size}"
        )
    for path, blend in blends.items():
        if blend.tokenizer.identity != tokenizer.identity:
            raise InputError(
                f"data.stages: {path} was made by tokenizer {blend.tokenizer.identity}, and {config.data.blend} by "
                f"{tokenizer.identity}; a run has one tokenizer: prepare one of them again"
            )


def _sources(config: RunConfig, stage: Stage, blends: Mapping[str, Blend]) -> list[BlendSource]:
    """A stage's sources with its weights."""
    path = stage.blend or str(config.data.blend)
    sources = {source.name: source for source in blends[path].sources}
    if stage.weights is None:
        return list(sources.values())
    unknown = sorted(set(stage.weights) - set(sources))
    if unknown:
        raise InputError(
            f"data.stages (from {stage.from_tokens}): weights: {path} has no source {', '.join(unknown)}; "
            f"it has {', '.join(sources)}"
        )
    return [
        s.model_copy(update={"weight": stage.weights[name]}) for name, s in sources.items() if name in stage.weights
    ]


def _shares(sources: list[BlendSource]) -> dict[str, float]:
    total = sum(source.weight for source in sources)
    return {source.name: source.weight / total for source in sources}


def _mixtures(config: RunConfig, mixtures: list[tuple[int, list[BlendSource]]]) -> Iterator[Mixture]:
    """Stages by samples. The last one ends with training and one more step."""
    clock = TokenClock.of(config)
    end = clock.samples(config.schedule.train_tokens) + config.batch.global_
    begins = [clock.samples(tokens) for tokens, _ in mixtures]
    for (_, sources), first, after in zip(mixtures, begins, [*begins[1:], end], strict=True):
        yield Mixture(_shares(sources), first, after - first, end - first)


def _identity(
    config: RunConfig, tokenizer: BlendTokenizer, mixtures: list[tuple[int, list[BlendSource]]]
) -> dict[str, Any]:
    """Settings that a run keeps for life, and the stages, of which it keeps what it has read."""
    identity: dict[str, Any] = {
        "seed": config.seed,
        "schedule.train_tokens": config.schedule.train_tokens,
        "batch.global": config.batch.global_,
        "data.split": list(config.data.split),
        "tokenizer": tokenizer.identity,
    }
    if config.schedule.sequence_warmup:
        identity["schedule.sequence_warmup"] = config.schedule.sequence_warmup.model_dump()
    for key in ("reset_attention", "reset_positions", "mask_eod_loss"):
        if getattr(config.data, key):
            identity[f"data.{key}"] = True
    for begin, sources in mixtures:
        prefix = f"stage {begin}: " if begin else ""
        identity |= {f"{prefix}source {s.name}": [s.weight, s.documents, s.token_count] for s in sources}
    return identity


def _validation(
    config: RunConfig, tokenizer: BlendTokenizer, trained: Mapping[str, BlendSource]
) -> dict[str, list[BlendSource]]:
    """Further validation sets: name -> their sources. Raises ConfigError with all that is wrong with them."""
    sets, problems = {}, []
    for name, where in config.data.validation.items():
        if name in trained:
            problems.append(Problem(f"data.validation.{name}", "a source has that name", "choose another"))
        try:
            sets[name] = _validation_sources(Path(where), tokenizer)
        except InputError as error:
            problems.append(Problem(f"data.validation.{name}", str(error)))
    if problems:
        raise ConfigError(problems, "validation sets")
    return sets


def _validation_sources(path: Path, tokenizer: BlendTokenizer) -> list[BlendSource]:
    """The sources of a blend.yaml, or the one of a prefix."""
    if path.suffix in (".yaml", ".yml"):
        blend = read_blend(path)
        made_by: Any = blend.tokenizer.identity
        sources = list(blend.sources)
    else:
        info = check_indexed(path)
        again = "prepare it again (megatron-nlg prep run)"
        made_by = read_json(path.with_name(path.name + ".json"), again).get("tokenizer_identity")
        prefix = str(path.resolve())
        sources = [
            BlendSource(name=path.name, tokens=prefix, weight=1.0, documents=info.documents, token_count=info.tokens)
        ]
    if made_by != tokenizer.identity:
        raise InputError(
            f"{path} was made by tokenizer {made_by!r}, and the run's is {tokenizer.identity!r}; prepare it with that"
        )
    return sources


def _fingerprint(plan: Plan) -> str:
    """Name of the index folder: changes with everything that the order depends on, and with the token files."""
    prefixes = {source.tokens for source in plan.sources.values()}
    prefixes |= {tokens for entries in plan.validation_tokens.values() for tokens in entries.values()}
    files = {
        prefix: [
            (stat.st_size, stat.st_mtime_ns) for end in ("bin", "idx") for stat in [Path(f"{prefix}.{end}").stat()]
        ]
        for prefix in prefixes
    }
    what = {
        "sources": {name: source.model_dump(exclude={"weight"}) for name, source in plan.sources.items()},
        "stages": [(list(stage.shares), asdict(stage)) for stage in plan.stages],
        "validation": [
            (name, asdict(mixture), plan.validation_tokens[name]) for name, mixture in plan.validation.items()
        ],
        "files": files,
        "split": plan.split,
        "samples": (plan.sequence_length, plan.valid_samples),
        "seed": plan.seed,
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def document_cut(documents: int, split: tuple[float, float]) -> int:
    """Documents [0, cut) are for training, [cut, documents) for validation (Megatron-core's rounding)."""
    return round(split[0] / sum(split) * documents)


def split_problems(plan: Plan) -> Iterator[Problem]:
    """Sources whose training or validation documents do not fill a single sample."""
    from megatron_nlg.data.mixture import indexed

    needed = plan.sequence_length + 1
    for i, (name, source) in enumerate(plan.sources.items()):
        tokens = indexed(source.tokens)  # held here: its arrays are unmapped when it is dropped
        lengths = tokens.sequence_lengths
        cut = document_cut(len(lengths), plan.split)
        for share, part, mend in (
            ("training", lengths[:cut], "raise the first share of data.split, or give the source more text"),
            (
                "validation",
                lengths[cut:] if plan.valid_samples else None,
                "raise the second share of data.split, cut the text into more documents, "
                "or set evaluation.batches to 0 to train without validation",
            ),
        ):
            if part is not None and (count := int(part.sum(dtype=np.int64))) < needed:
                yield Problem(
                    f"sources.{i} ({name})",
                    f"data.split {list(plan.split)} gives {len(part)} of {len(lengths)} documents with {count} tokens "
                    f"to {share}, and one sample of model.sequence_length {plan.sequence_length} takes {needed}",
                    mend,
                )
    for name, entries in plan.validation_tokens.items():
        for source_name, prefix in entries.items():
            if (count := check_indexed(Path(prefix)).tokens) < needed:
                yield Problem(
                    f"data.validation.{name}",
                    f"{source_name} has {count} tokens, and one sample takes {needed}",
                    "give it more text, or leave it out",
                )
