"""Every legal layout trains the same model: losses and gradient norms equal a plain PyTorch loop's.

Tolerances: fp32 sums in another order differ in the last bits (about 1e-7 a value); 1e-5 relative leaves room for a few
steps of Adam on them. bf16 keeps 8 bits of mantissa and fp16 11: 5e-3 relative, as measured for one process alone.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.distributed as dist

from megatron_nlg.model.naming import named_parameters
from megatron_nlg.parallel import context as context_module
from megatron_nlg.parallel.context import ParallelContext
from megatron_nlg.training.engine import Engine
from tests.megatron_nlg.training.steps import batch, train
from tests.tiny import LLAMA, tiny
from tests.world import WorkerError, World

STEPS = 4
FP32 = 1e-5
NORM = 1e-4
HALF = 5e-3

LAYOUTS = [  # against the plain loop; verification/test_gate.py holds many more against the first one of these
    (1, ""),
    (1, LLAMA),
    (1, "model.activation=gelu_tanh model.rotary_fraction=0.5 model.position_embedding=rotary"),
    (2, f"parallel.zero_stage=3 {LLAMA}"),
    (4, f"parallel.tensor=2 parallel.context=2 parallel.sequence=true {LLAMA}"),
    (4, "parallel.zero_stage=2 parallel.tensor=2 parallel.sequence=true"),
    (8, "parallel.tensor=2 parallel.pipeline=2 parallel.interleave=2 parallel.sequence=true"),
    (4, "batch.micro=4 parallel.pipeline=2"),
]


def relative(got: list[float], want: list[float]) -> float:
    """Largest relative difference."""
    return max(abs(g - w) / abs(w) for g, w in zip(got, want, strict=True))


def plain_loop(steps: int, masked: bool = False, *overrides: str) -> tuple[list[float], list[float]]:
    """The reference: the same network and initial weights, a bare loop, torch's AdamW and clipping, no DeepSpeed."""
    config = tiny(*overrides)
    context = ParallelContext.create(config)
    engine = Engine(config, context)
    model = engine.chunks[0]
    start = {n: p.detach().clone() for n, p in model.named_parameters()}
    engine.destroy()
    model.load_state_dict(start, strict=False)
    settings = config.optimizer
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    adam = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=settings.lr,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
    )
    losses, norms = [], []
    for step in range(steps):
        parts = batch(config, context, step, config.batch.global_, masked)
        tokens, labels, mask = (torch.cat([p[k] for p in parts]) for k in ("tokens", "labels", "loss_mask"))
        logits = model(tokens, torch.arange(tokens.shape[1]).expand_as(tokens), None)[..., : config.model.vocab_size]
        per_token = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
        loss = (per_token * mask).sum() / mask.sum()
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_grad_norm)))
        adam.step()
        adam.zero_grad()
        losses.append(float(loss))
    return losses, norms


@pytest.fixture(scope="module")
def reference(world: World) -> Any:
    """Losses and norms of the plain loop, computed once a kind of batch."""

    @cache
    def compute(masked: bool = False, *overrides: str) -> tuple[list[float], list[float]]:
        losses: tuple[list[float], list[float]] = world.run(1, plain_loop, STEPS, masked, *overrides)[0]
        return losses

    return compute


@pytest.mark.parametrize(("ranks", "overrides"), LAYOUTS)
def test_layout_equals_plain_loop(world: World, reference: Any, ranks: int, overrides: str) -> None:
    losses, norms = world.run(ranks, train, tiny(*overrides.split()), STEPS)[0]
    want_losses, want_norms = reference(False, *[word for word in overrides.split() if word.startswith("model.")])
    assert relative(losses, want_losses) <= FP32
    assert relative(norms, want_norms) <= NORM


def test_all_ranks_report_the_same(world: World) -> None:
    results = world.run(8, train, tiny("parallel.tensor=2", "parallel.pipeline=2"), 2)
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize(
    ("ranks", "overrides"),
    [(2, ""), (8, "parallel.tensor=2 parallel.pipeline=2 parallel.sequence=true"), (2, "parallel.pipeline=2")],
)
def test_uneven_masks_weigh_every_token_alike(world: World, reference: Any, ranks: int, overrides: str) -> None:
    losses, norms = world.run(ranks, train, tiny(*overrides.split()), STEPS, None, True)[0]
    want_losses, want_norms = reference(True)
    assert relative(losses, want_losses) <= FP32
    assert relative(norms, want_norms) <= NORM


@pytest.mark.parametrize(("ranks", "overrides"), [(4, "parallel.tensor=2 parallel.pipeline=2"), (2, "")])
def test_untied_embeddings(world: World, reference: Any, ranks: int, overrides: str) -> None:
    untied = "model.tie_embeddings=false"
    losses, norms = world.run(ranks, train, tiny(untied, *overrides.split()), STEPS)[0]
    want_losses, want_norms = reference(False, untied)
    assert relative(losses, want_losses) <= FP32
    assert relative(norms, want_norms) <= NORM


@pytest.mark.parametrize(
    ("ranks", "overrides"),
    [
        (1, "precision=bf16"),
        (8, "precision=bf16 parallel.tensor=2 parallel.pipeline=2 parallel.sequence=true"),
        (2, "precision=bf16 parallel.zero_stage=3"),
        (2, "precision=bf16 parallel.zero_stage=2 parallel.offload_optimizer=true"),
        (1, "precision=fp16"),
        (4, "precision=fp16 parallel.tensor=2 parallel.pipeline=2 parallel.sequence=true"),
        (2, "precision=fp16 parallel.zero_stage=2"),
        (2, "precision=fp16 parallel.zero_stage=3 parallel.offload_optimizer=true"),
    ],
)
def test_16_bits_are_near_fp32(world: World, reference: Any, ranks: int, overrides: str) -> None:
    losses, norms = world.run(ranks, train, tiny(*overrides.split()), STEPS)[0]
    assert relative(losses, reference()[0]) <= HALF
    assert relative(norms, reference()[1]) <= 10 * HALF


SEARCH = 12
"""Steps: five that overflow from a scale of 2^24 on, then good ones, and after two of these a higher scale again."""


def overflowing(*overrides: str) -> tuple[list[int], list[float]]:
    """Skipped steps after each step, and the loss scale after each."""
    scale = f"loss_scale={{initial: {2**24}, hysteresis: 1, window: 2}}"
    config = tiny("precision=fp16", "batch.micro=4", scale, *overrides)
    context = ParallelContext.create(config)
    engine = Engine(config, context)
    skipped, scales = [], []
    for step in range(SEARCH):
        engine.train_step(batch(config, context, step, config.batch.global_), config.optimizer.lr, step)
        skipped.append(engine.skipped_steps)
        scales.append(engine.loss_scale_state()["cur_scale"])
    return skipped, scales


@pytest.mark.parametrize(("ranks", "overrides"), [(1, ""), (2, "parallel.pipeline=2"), (2, ""), (4, "")])
def test_fp16_finds_its_loss_scale(world: World, ranks: int, overrides: str) -> None:
    results = world.run(ranks, overflowing, *overrides.split())
    for skipped, scales in results:
        assert skipped[0] == 1 and skipped[-1] < SEARCH  # it overflows at first, and finds its way down
        halved = [b < a for a, b in pairwise(scales)]
        assert halved == [b > a for a, b in pairwise(skipped)]
        assert any(b > a for a, b in pairwise(scales))  # two good steps: up again
        assert scales == results[0][1]


def test_batch_ramp_changes_micro_batch_counts(world: World) -> None:
    sizes = [8, 8, 16, 24]
    want, _ = world.run(1, train, tiny(), 4, sizes)[0]
    for ranks, overrides in [(8, "parallel.tensor=2 parallel.pipeline=2 parallel.sequence=true"), (2, "")]:
        got, _ = world.run(ranks, train, tiny(*overrides.split()), 4, sizes)[0]
        assert relative(got, want) <= FP32


@pytest.mark.parametrize(
    ("ranks", "overrides"),
    [(1, ""), (4, "parallel.tensor=2 parallel.pipeline=2 parallel.sequence=true"), (2, "parallel.tensor=2")],
)
def test_dropout_reproduces_itself_with_and_without_recompute(world: World, ranks: int, overrides: str) -> None:
    settings = ["model.dropout=0.1", "batch.micro=4", *overrides.split()]
    first = world.run(ranks, train, tiny(*settings), 3)[0]
    assert world.run(ranks, train, tiny(*settings), 3)[0] == first
    assert world.run(ranks, train, tiny(*settings, "parallel.recompute=full"), 3)[0] == first
    [loss], _ = world.run(ranks, train, tiny(*settings, "seed=99"), 1)[0]
    assert loss != first[0][0]


def evaluate_between_steps() -> list[float]:
    config = tiny("parallel.tensor=2", "parallel.pipeline=2", "parallel.interleave=2")
    context = ParallelContext.create(config)
    engine = Engine(config, context)
    out = []
    for step in range(3):
        data = batch(config, context, step, config.batch.global_)
        out += [float(engine.evaluate(data)), float(engine.train_step(data, config.optimizer.lr, step).loss)]
    return out


def test_evaluation_is_the_next_steps_loss_and_changes_nothing(world: World, reference: Any) -> None:
    out = world.run(4, evaluate_between_steps)[0]
    assert out[0::2] == out[1::2]
    assert relative(out[1::2], reference()[0][:3]) <= FP32


def logits_of(*overrides: str) -> torch.Tensor:
    config = tiny(*overrides)
    engine = Engine(config, ParallelContext.create(config))
    tokens = torch.arange(64).reshape(2, 32) % config.model.vocab_size
    return engine.logits(tokens)


def test_logits_on_every_rank_and_padding_never_predicted(world: World) -> None:
    want = world.run(1, logits_of)[0]
    assert want.shape == (2, 32, 256)
    assert bool((want[..., 250:] == torch.finfo(torch.float32).min).all())
    for overrides in (
        ["parallel.tensor=2", "parallel.pipeline=2", "parallel.sequence=true"],
        ["parallel.zero_stage=3"],
    ):
        for got in world.run(4, logits_of, *overrides):
            torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def non_finite_step(*overrides: str) -> tuple[int, list[float]]:
    config = tiny(*overrides)
    context = ParallelContext.create(config)
    engine = Engine(config, context)
    before = [p.parameter.detach().clone() for p in engine.parameters()]
    data = batch(config, context, 0, config.batch.global_)
    if context.is_last_stage and context.at.data == 0:
        data[0]["loss_mask"][0, 0] = float("nan")
    engine.train_step(data, config.optimizer.lr, 0)
    return engine.skipped_steps, [
        float((a - b.parameter).abs().max()) for a, b in zip(before, engine.parameters(), strict=True)
    ]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_non_finite_step_is_skipped_on_all_ranks(world: World, precision: str) -> None:
    for skipped, changes in world.run(4, non_finite_step, "parallel.pipeline=2", f"precision={precision}"):
        assert skipped == 1
        assert max(changes) == 0


def test_zero_2_with_a_pipeline_would_fail_so_the_config_refuses_it(world: World) -> None:
    """The reason of the rule in config/validate.py; when this passes, the rule can go."""
    with pytest.raises(WorkerError):
        world.run(2, train, tiny("parallel.pipeline=2", "parallel.zero_stage=2", "distributed.timeout_seconds=6"), 1)


def settings_in_deepspeed() -> tuple[list[float], str, str]:
    config = tiny("precision=bf16", "optimizer.weight_decay=0.3")
    engine = Engine(config, ParallelContext.create(config))
    groups = [float(group["weight_decay"]) for group in engine.deepspeed.optimizer.param_groups]
    return groups, type(engine.deepspeed.optimizer).__name__, str(engine.deepspeed.optimizer.grad_acc_dtype)


def test_weight_decay_and_fp32_accumulation_reach_deepspeed(world: World) -> None:
    groups, optimizer, accumulation = world.run(1, settings_in_deepspeed)[0]
    assert groups == [0.3, 0.0]
    assert (optimizer, accumulation) == ("BF16_Optimizer", "torch.float32")


def recreate_context() -> list[int]:
    config = tiny("parallel.tensor=2")
    sizes = []
    for _ in range(2):
        context = ParallelContext.create(config)
        sizes.append(dist.get_world_size(context.tensor_group))
        if not sizes[1:]:
            store = dist.distributed_c10d._get_default_store()
            rank, world_size = dist.get_rank(), dist.get_world_size()
            context.destroy()
            dist.init_process_group("gloo", store=dist.PrefixStore("again", store), rank=rank, world_size=world_size)
    return sizes


def test_a_destroyed_context_can_be_made_again(world: World) -> None:
    assert world.run(2, recreate_context) == [[2, 2], [2, 2]]
    assert context_module.Rendezvous.from_environment() is None


def global_names(*overrides: str) -> list[tuple[str, tuple[int, ...]]]:
    config = tiny(*overrides)
    engine = Engine(config, ParallelContext.create(config))
    return [(n.name, tuple(n.whole_shape(config.parallel.tensor))) for n in named_parameters(engine.chunks)]


def test_global_names_and_shapes_do_not_depend_on_the_layout(world: World) -> None:
    want = dict(world.run(1, global_names)[0])
    for overrides in (["parallel.tensor=2", "parallel.pipeline=2", "parallel.interleave=2"], ["parallel.zero_stage=3"]):
        got = dict(item for rank in world.run(4, global_names, *overrides) for item in rank)
        assert got == want
