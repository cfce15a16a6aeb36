"""Predicted transfers against what runs on the CPU record, collective by collective."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from megatron_nlg.parallel.context import ParallelContext
from megatron_nlg.parallel.layout import Layout
from megatron_nlg.planning.communication import Transfer, share_sent, step_transfers
from megatron_nlg.training.engine import Engine
from tests.megatron_nlg.training.steps import batch
from tests.tiny import LLAMA, tiny
from tests.world import World

OPERATIONS = {
    "allreduce_": "all_reduce",
    "_allgather_base_": "all_gather",
    "_reduce_scatter_base_": "reduce_scatter",
    "send": "send",
}
BATCH = "batch.global=8"
LAYOUTS = [
    (2, "parallel.tensor=2"),
    (2, "parallel.tensor=2 parallel.recompute=full precision=bf16"),
    (2, "parallel.tensor=2 parallel.sequence=true"),
    (2, "parallel.tensor=2 parallel.sequence=true parallel.recompute=full"),
    (2, "parallel.tensor=2 parallel.sequence=true parallel.recompute=selective " + LLAMA),
    (2, "parallel.pipeline=2"),
    (4, "parallel.pipeline=4 model.tie_embeddings=false"),
    (4, "parallel.pipeline=2 parallel.interleave=2 precision=bf16"),
    (2, ""),
    (2, "precision=bf16"),
    (2, "parallel.zero_stage=2"),
    (2, "parallel.zero_stage=3"),
    (8, "parallel.tensor=2 parallel.pipeline=2 parallel.sequence=true"),
    (8, "parallel.tensor=2 parallel.pipeline=2 parallel.interleave=2 precision=fp16"),
]


class Recorder(TorchDispatchMode):
    """Counts collectives of more than one rank and more than one number."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: Counter[tuple[str, int, int]] = Counter()
        self.calls: Counter[tuple[str, int, int]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "c10d":
            leaves = tree_leaves((args, kwargs))
            tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
            groups = [leaf for leaf in leaves if isinstance(leaf, torch.ScriptObject)]
            size = dist.ProcessGroup.unbox(groups[0]).size()  # type: ignore[attr-defined]
            name = OPERATIONS.get(func._schema.name.removeprefix("c10d::"))
            buffer = max(tensors, key=torch.Tensor.numel) if tensors else None
            if name and buffer is not None and buffer.numel() > 1 and (size > 1 or name == "send"):
                # A message's group is all that its sender can reach: not a property of the transfer.
                key = name, 0 if name == "send" else size, buffer.element_size()
                self.elements[key] += buffer.numel()
                self.calls[key] += 1
        return func(*args, **(kwargs or {}))


def record(*overrides: str) -> tuple[int, Counter[tuple[str, int, int]], Counter[tuple[str, int, int]]]:
    """This rank's stage, and the elements and calls of its second step by (operation, ranks, element bytes)."""
    config = tiny(BATCH, *overrides)
    context = ParallelContext.create(config)
    engine = Engine(config, context)
    first, second = (batch(config, context, step, config.batch.global_) for step in range(2))
    engine.train_step(first, 1e-3, 0)
    with Recorder() as recorder:
        engine.train_step(second, 1e-3, 1)
    engine.destroy()
    return context.at.pipe, recorder.elements, recorder.calls


@pytest.mark.parametrize(("ranks", "overrides"), LAYOUTS)
def test_predicted_is_recorded(world: World, ranks: int, overrides: str) -> None:
    config = tiny(BATCH, *overrides.split())
    layout = Layout.of(config.parallel, ranks)
    sizes = {"tensor": layout.tensor, "context": layout.context, "copies": layout.copies, "ends": 2, "pipeline": 0}
    micro_batches = config.batch.global_ // (config.batch.micro * layout.data)
    for pipe, elements, calls in world.run(ranks, record, *overrides.split()):
        want_elements, want_calls = Counter[Any](), Counter[Any]()
        for transfer in step_transfers(config, layout, micro_batches, pipe):
            key = transfer.operation, sizes[transfer.group], transfer.element_bytes
            want_elements[key] += transfer.calls * transfer.elements
            want_calls[key] += transfer.calls
        assert set(elements) == set(want_elements)
        for key, count in want_elements.items():  # ZeRO pads flat buffers, and stage 3 keeps a few weights
            assert 0.99 * count <= elements[key] <= 1.02 * count, key
            if key[:2] != ("all_gather", layout.copies):  # ZeRO gathers each group of parameters by itself
                assert calls[key] == want_calls[key], key


def test_what_a_rank_sends() -> None:
    assert [share_sent(o, 4) for o in ("all_reduce", "all_gather", "reduce_scatter", "send")] == [1.5, 0.75, 0.75, 1]
    transfer = Transfer("tensor", "all_reduce", "x", "forward", 3, 100, 2)
    assert (transfer.bytes, transfer.sent(2)) == (200, 600)


def test_the_papers_volumes() -> None:
    """MT-NLG, section 2: elements of a GPU a step, layer and micro-batch by the formulas of the reference."""
    config = tiny("parallel.tensor=4", "parallel.pipeline=2", "precision=bf16")
    layout, model = Layout(pipeline=2, data=2, tensor=4), config.model
    activations = config.batch.micro * model.sequence_length * model.hidden_size
    found = [t for t in step_transfers(config, layout, 8, 0) if t.what == "attention and MLP"]
    assert sum(t.sent(4) for t in found) / 2 == 8 * activations * 3 / 4 * (model.num_layers / 2) * 8
    (message,) = (t for t in step_transfers(config, layout, 8, 0) if t.group == "pipeline")
    assert (message.elements, message.calls) == (activations, 8)
