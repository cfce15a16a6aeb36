"""The equality gate: at least 30 layouts train the same model, and planted bugs are caught.

Limits and what they rest on: megatron_nlg/training/verification/compare.py. The layouts are the sampler's own choice,
which meets every setting, and as many pairs of them as so few layouts can.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.nn.attention.bias import causal_upper_left

from megatron_nlg.model import attention, forward, naming
from megatron_nlg.parallel.context import DeepSpeedMpu, ParallelContext
from megatron_nlg.parallel.layout import Layout
from megatron_nlg.training import engine as engine_module
from megatron_nlg.training.engine import Engine
from megatron_nlg.training.verification.compare import compare
from megatron_nlg.training.verification.layouts import legal_layouts, sample
from megatron_nlg.training.verification.measure import measure
from tests.tiny import LLAMA, tiny
from tests.world import World

STEPS = 4  # with two more, the planted bugs are as far beyond their limits: 2.5 times for 2.2 where it is closest
# The ramp changes the number of micro-batches on the way; clipping is on (optimizer.clip_grad_norm 1).
RAMP = "batch.ramp={start: 8, increment: 8, tokens: 700}"


def config_of(shape: str) -> Any:
    return tiny(RAMP, *(LLAMA.split() if shape == "llama" else ()))


CANDIDATES = [
    *sample(legal_layouts(config_of("gpt"), [1, 2, 4]), 26),
    *sample(legal_layouts(config_of("gpt"), [8]), 6),
]
LLAMA_CANDIDATES = sample(legal_layouts(config_of("llama"), [2, 4]), 6)


@pytest.fixture(scope="module")
def references(world: World, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, dict[str, Any]]]:
    """Folder and curve of one rank's training, run once a model."""
    kept: dict[str, tuple[Path, dict[str, Any]]] = {}

    def reference(shape: str) -> tuple[Path, dict[str, Any]]:
        if shape not in kept:
            folder = tmp_path_factory.mktemp(shape)
            kept[shape] = folder, world.run(1, measure, config_of(shape), STEPS, folder, True)[0]
        return kept[shape]

    return reference


def test_the_gate_has_thirty_layouts_and_every_setting() -> None:
    assert len({c.name for c in CANDIDATES}) >= 30
    met = {choice for c in CANDIDATES for choice in c.choices}
    for axis, values in {
        "tensor": (1, 2, 4),
        "pipeline": (1, 2, 4),
        "interleave": (1, 2),
        "context": (1, 2, 4, 8),
        "data": (1, 2, 4),
        "sequence": (True, False),
        "zero_stage": (1, 2, 3),
        "recompute": ("none", "selective", "full"),
        "offload_optimizer": (True, False),
    }.items():
        assert {(axis, value) for value in values} <= met


@pytest.mark.parametrize(
    ("shape", "candidate"),
    [*(("gpt", c) for c in CANDIDATES), *(("llama", c) for c in LLAMA_CANDIDATES)],
    ids=lambda value: value if isinstance(value, str) else value.name.replace(" ", "_"),
)
def test_layout_is_equal(world: World, references: Any, shape: str, candidate: Any) -> None:
    folder, want = references(shape)
    config = config_of(shape).model_copy(update={"parallel": candidate.parallel})
    if candidate.parallel.pipeline == 1 and Layout.of(candidate.parallel, candidate.ranks).data <= 2:
        # The reference's samples in micro-batches of another size: the same mean in half the passes.
        config = config.model_copy(update={"batch": config.batch.model_copy(update={"micro": 4})})
    curve = world.run(candidate.ranks, measure, config, STEPS, folder, False)[0]
    assert len(set(want["losses"])) == STEPS and want["losses"][-1] < want["losses"][0]
    verdict = compare(curve, want, "fp32")
    assert verdict.equal, verdict
    assert set(verdict.differences) >= {"loss", "grad_norm", "embeddings", "matrices", "norms"}


# ---- planted bugs: each must be beyond the limits -------------------------------------------------------------------


def after_construction(change: Callable[[Engine], None]) -> None:
    """Let every engine be changed once it is built."""
    original = Engine._mark_shared_gradients

    def marked(self: Engine) -> None:
        original(self)
        change(self)

    Engine._mark_shared_gradients = marked  # type: ignore[method-assign]


def drop_sequence_sums(engine: Engine) -> None:
    engine._sequence_cut = []


def drop_one_norm(engine: Engine) -> None:
    names = {id(item.parameter): item.name for item in engine.parameters()}
    left = [p for p in engine._sequence_cut if names[id(p)] != "decoder.layers.2.pre_mlp_layernorm.weight"]
    assert len(left) == len(engine._sequence_cut) - 1
    engine._sequence_cut = left


def drop_tied_sum(engine: Engine) -> None:
    engine._tied = None


def count_tied_twice(engine: Engine) -> None:
    if engine._tied is not None:
        engine._tied.ds_pipe_replicated = False  # type: ignore[attr-defined]


def norm_over_tensor_group() -> None:
    DeepSpeedMpu.get_model_parallel_group = lambda self: self._context.tensor_group  # type: ignore[method-assign]


def average_of_averages() -> None:
    """Every replica divides by its own tokens, and the replicas' means are averaged: right only for even masks."""

    class Collectives:
        def __getattr__(self, name: str) -> Any:
            return getattr(dist, name)

        @staticmethod
        def all_reduce(tensor: Any, group: Any = None, **options: Any) -> None:
            if tensor.dim() == 0 and float(tensor) == int(tensor) and tensor > 1:  # the count of tokens
                tensor *= dist.get_world_size(group)
            else:
                dist.all_reduce(tensor, group=group, **options)

    engine_module.dist = Collectives()  # type: ignore[assignment]


def batched_p2p() -> None:
    original = ParallelContext.create.__func__  # type: ignore[attr-defined]

    def create(cls: Any, *args: Any) -> ParallelContext:
        context: ParallelContext = original(cls, *args)
        return dataclasses.replace(context, device=dataclasses.replace(context.device, batched_p2p=True))

    ParallelContext.create = classmethod(create)  # type: ignore[assignment]


def contiguous_pieces() -> None:
    """Sequences cut into as many pieces as ranks, but gathered as if each rank held two."""
    forward.own_positions = lambda length, rank, size, device: torch.arange(length).chunk(size)[rank]


def causal_from_the_top() -> None:
    attention.causal_lower_right = causal_upper_left


def rotary_from_zero() -> None:
    """Every rank of a context group rotates as if its piece began the sequence."""
    attention.own_positions = lambda length, rank, size, device: torch.arange(length // size)


def gated_halves_mixed() -> None:
    """The two matrices of a gated MLP get initial weights that are cut as if they were one."""
    whole, original = naming.GATED, Engine.__init__

    def construct(self: Engine, *args: Any) -> None:
        naming.GATED = ("nothing",)  # type: ignore[assignment]
        original(self, *args)
        naming.GATED = whole

    Engine.__init__ = construct  # type: ignore[method-assign]


def lose_hooks(engine: Engine) -> None:
    engine._summed_over_tensor_ranks = lambda grad: grad  # type: ignore[method-assign]
    for item in engine.parameters():
        if getattr(item.parameter, "sequence_parallel", False):
            item.parameter._backward_hooks.clear()  # type: ignore[union-attr]


def drifting_replica() -> None:
    """A weight that all tensor ranks hold whole is moved a tenth of the learning rate on one of them, every step."""
    original = Engine.train_step

    def step(self: Engine, *args: Any) -> Any:
        result = original(self, *args)
        if self.context.at.tensor == 1:
            for group in self.deepspeed.optimizer.single_partition_of_fp32_groups[1:]:
                group.data[0] += 1e-4
        return result

    Engine.train_step = step  # type: ignore[method-assign]


BUGS: list[tuple[str, Callable[..., None], bool, str, int, str]] = [
    # name, change, whether it changes a built engine, model, ranks, layout
    ("no sum over tensor ranks", drop_sequence_sums, True, "gpt", 2, "tensor=2 sequence=true"),
    ("one layer norm not summed over tensor ranks", drop_one_norm, True, "gpt", 2, "tensor=2 sequence=true"),
    ("the same under ZeRO-2", lose_hooks, True, "gpt", 2, "tensor=2 sequence=true zero_stage=2"),
    ("tied embedding's gradient not summed", drop_tied_sum, True, "gpt", 2, "pipeline=2"),
    ("tied embedding twice in the norm", count_tied_twice, True, "gpt", 2, "pipeline=2"),
    ("gradient norm of one stage", norm_over_tensor_group, False, "gpt", 2, "pipeline=2"),
    ("mean of means under uneven masks", average_of_averages, False, "gpt", 2, ""),
    ("batched point-to-point on gloo", batched_p2p, False, "gpt", 2, "pipeline=2 interleave=2"),
    ("sequence cut in contiguous pieces", contiguous_pieces, False, "gpt", 2, "context=2"),
    ("causal mask aligned to the first key", causal_from_the_top, False, "gpt", 2, "context=2"),
    ("rotary positions from zero on every rank", rotary_from_zero, False, "llama", 2, "context=2"),
    ("gate and up matrices mixed", gated_halves_mixed, False, "llama", 2, "tensor=2"),
    ("a replicated weight drifts on one rank", drifting_replica, False, "gpt", 2, "tensor=2"),
]


def broken(bug: str, config: Any, folder: Path) -> dict[str, Any]:
    """Measure with a bug planted in this process, which ends with the call."""
    change, built = next((change, built) for name, change, built, *_ in BUGS if name == bug)
    if built:
        after_construction(change)
    else:
        change()
    return measure(config, STEPS, folder, False)


@pytest.mark.parametrize(("bug", "shape", "ranks", "layout"), [(n, s, r, o) for n, _, _, s, r, o in BUGS])
def test_planted_bug_is_caught(world: World, references: Any, bug: str, shape: str, ranks: int, layout: str) -> None:
    folder, want = references(shape)
    whole = [RAMP, *(LLAMA.split() if shape == "llama" else ())]
    config = tiny(*whole, *(f"parallel.{setting}" for setting in layout.split()))
    curve = world.run(ranks, broken, bug, config, folder)[0]
    assert not compare(curve, want, "fp32").equal
