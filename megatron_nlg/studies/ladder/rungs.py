"""The rungs as data: what each lays over the ones below it, and why a machine can't do one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from megatron_nlg.config.errors import InputError


class Rung(NamedTuple):
    """A step of the ladder."""

    name: str
    title: str
    overrides: tuple[str, ...]
    """Laid over those of the rungs before it; {precision}, {tensor} and {pipeline} are options of the command."""
    parallel: bool = False
    """Whether it takes all ranks; those before the first of these take one."""
    published: int | None = None
    """Tokens/s of the GPT-3 125M reproduction study on Tiny Shakespeare: one RTX 3090, the last rung two."""


RUNGS = (
    Rung(
        "fp32",
        "fp32, naive attention",
        (
            "precision=fp32",
            "kernels.tf32=false",
            "kernels.attention=naive",
            "kernels.compiled=false",
            "kernels.libraries=false",
            "parallel.tensor=1",
            "parallel.pipeline=1",
        ),
        published=18_911,
    ),
    Rung("tf32", "TF32 products", ("kernels.tf32=true",)),
    Rung("mixed", "mixed precision ({precision})", ("precision={precision}",), published=27_044),
    Rung("flash", "flash attention", ("kernels.attention=fused",), published=55_382),
    Rung("fused", "compiled and fused kernels", ("kernels.compiled=true", "kernels.libraries=true")),
    Rung("data", "data parallel × {data}", (), parallel=True, published=105_219),
    Rung("tensor", "tensor parallel × {tensor}", ("parallel.tensor={tensor}",), parallel=True),
    Rung("pipeline", "pipeline × {pipeline}", ("parallel.tensor=1", "parallel.pipeline={pipeline}"), parallel=True),
)
DEFAULT = ("fp32", "mixed", "flash", "fused", "data")

SMALLER = (
    "model.num_layers=4",
    "model.hidden_size=256",
    "model.num_attention_heads=4",
    "batch.global=2",
)
"""What --smaller lays over the config, for a laptop."""


@dataclass(frozen=True)
class Machine:
    """What rungs ask of a machine."""

    gpus: int | None
    """None on the CPU."""
    ranks: int
    """Ranks of the parallel rungs."""
    not_compiled: str | None
    """Why nothing can be compiled."""
    libraries: bool
    """Whether apex or Transformer Engine is there."""


@dataclass(frozen=True)
class Step:
    """A rung on this machine."""

    rung: Rung
    title: str
    overrides: tuple[str, ...]
    """Its own and those of the rungs below it."""
    ranks: int
    why_not: str | None = None


def ladder(names: Sequence[str], machine: Machine, options: Mapping[str, Any]) -> list[Step]:
    """The chosen rungs from the lowest up; a rung that can't be done is left out below those above it, too.

    `options` has precision, tensor and pipeline. Raises InputError for a rung that there is not.
    """
    known = [rung.name for rung in RUNGS]
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"--rungs {unknown[0]}: there is none of that name; there are: {' '.join(known)}")
    settings: dict[str, str] = {}
    steps = []
    for rung in (rung for rung in RUNGS if rung.name in names):
        why_not = reason(rung, machine, options)
        own = dict(text.format(**options).split("=", 1) for text in rung.overrides)
        ranks = machine.ranks if rung.parallel else 1
        data = ranks // max(1, int(own.get("parallel.tensor", 1)) * int(own.get("parallel.pipeline", 1)))
        title = rung.title.format(**options, data=data)
        merged = settings | own
        steps.append(Step(rung, title, tuple(f"{k}={v}" for k, v in merged.items()), ranks, why_not))
        if why_not is None:
            settings = merged
    return steps


def reason(rung: Rung, machine: Machine, options: Mapping[str, Any]) -> str | None:
    """Why the machine can't do a rung, or the rung is nothing here."""
    if rung.name == "tf32" and machine.gpus is None:
        return "the CPU has no TF32"
    if rung.name == "fused" and machine.not_compiled and not machine.libraries:
        return f"not compiled: {machine.not_compiled}; neither apex nor Transformer Engine is used here"
    if rung.parallel and machine.ranks < 2:
        return f"one rank only: there is one {'core' if machine.gpus is None else 'GPU'}, or one micro-batch"
    if rung.name in ("tensor", "pipeline"):
        size = int(options[rung.name])
        if size < 2:
            return f"--{rung.name} {size}: nothing is cut"
        if machine.ranks % size:
            return f"--{rung.name} {size} does not divide {machine.ranks} ranks"
    return None


def varied() -> set[str]:
    """Settings that are the ladder's own."""
    return {text.partition("=")[0] for rung in RUNGS for text in rung.overrides}
