"""Compiled parts give what the plain ones give."""

from __future__ import annotations

import pytest
import torch

from megatron_nlg.model import kernels
from megatron_nlg.model.fused import cross_entropy
from tests.megatron_nlg.training.steps import train
from tests.tiny import LLAMA, tiny
from tests.world import World


def compiled_curve(*overrides: str) -> tuple[list[float], list[float]]:
    """Losses and gradient norms with everything traced and differentiated by torch.compile, without its backend."""
    kernels.why_not_compiled = lambda *_: None
    torch.compiler.set_stance(force_backend="aot_eager")
    result = train(tiny(*overrides), 3, masked=True)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 2
    return result


def plain_curve(*overrides: str) -> tuple[list[float], list[float]]:
    return train(tiny(*overrides), 3, masked=True)


@pytest.mark.parametrize(
    "overrides",
    [
        "parallel.recompute=full",
        LLAMA,
        "model.activation=geglu parallel.zero_stage=2",
        "model.activation=gelu_tanh model.dropout=0.1",
    ],
)
def test_compiled_training_equals_plain_training(world: World, overrides: str) -> None:
    settings = ("batch.global=4", "model.num_layers=2", *overrides.split())
    [plain], [compiled] = world.run(1, plain_curve, *settings), world.run(1, compiled_curve, *settings)
    for ours, theirs in zip(compiled, plain, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


def test_padded_rows_take_no_part_in_the_loss() -> None:
    logits = torch.randn(5, 2, 16, dtype=torch.bfloat16, requires_grad=True)
    labels = torch.randint(0, 11, (2, 5))
    loss = cross_entropy(logits, labels, 11)
    loss.sum().backward()
    exact = -torch.log_softmax(logits.detach()[..., :11].double(), -1).gather(-1, labels.t()[..., None])[..., 0].t()
    assert loss.dtype == torch.float32
    assert torch.allclose(loss.double(), exact)
    assert logits.grad is not None
    assert not logits.grad[..., 11:].any()
    assert logits.grad[..., :11].any()
