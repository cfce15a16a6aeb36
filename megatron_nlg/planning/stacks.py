"""Software stacks: what they do differently on the same hardware.

The two that measurements were published for calibrate the model; `this` is this project's engine. Each has one factor
on its kernels' time, relative to Megatron-LM's of 2021; nothing else of a stack is fitted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Stack:
    """What a training system does."""

    kernel_factor: float
    """Time of its kernels against Megatron-LM's of 2021."""
    materialized_attention: bool
    """Scores, softmax and dropout pass through memory; else attention is one kernel."""
    dropout: float | None
    """Dropout rate of the published runs; None takes the config's."""
    scatter_gather: bool
    """Each tensor rank sends its share of a message to the next stage, which gathers it over GPU links."""
    blocking_messages: bool
    """A stage waits until its message to the next has arrived."""
    gradient_bytes: int
    """Of a gradient element that is summed over replicas."""
    weights_gathered: bool
    """ZeRO-1: each replica updates its share of the weights, and gathers the rest."""
    accumulate_bytes: int
    """Read and written for each parameter after each micro-batch, to add its gradient to the sum."""
    update_bytes: int
    """Read and written once a step for each parameter that a rank updates."""
    bucket_bytes: int
    """Read and written once a step for each gradient, where replicas sum them: into a bucket, and back."""
    loss_bytes: tuple[int, int]
    """Read and written for each logit by the loss, in the forward and in the backward pass."""
    fp32_update_bytes: int = 0
    """The same, more in fp32 than in 16 bits."""
    interleaves: bool = True
    """Whether a stage can hold several chunks."""
    cuts_sequence: bool = True
    """Whether it knows sequence parallelism and selective recomputation, both of Korthikanti et al. 2022."""


Name = Literal["megatron-lm-2021", "megatron-deepspeed-2022", "this"]

STACKS: dict[Name, Stack] = {
    # Narayanan et al. 2021 (sections 3.2 and 4.1) and Megatron-LM 2.x. Bytes an element: gradients added to contiguous
    # fp16 buffers, 2 + 2 read and 2 written; Adam on every rank: to fp32 6, unscale 8, norm 4, clip 8, Adam 28, to fp16
    # 6, zero 2; the loss in separate kernels: to fp32 6, maximum 4, subtract 8, exponential 8, sum 4, divide 8;
    # backward scale 8, to fp16 6.
    "megatron-lm-2021": Stack(
        kernel_factor=1.0,
        materialized_attention=True,
        dropout=0.1,
        scatter_gather=True,
        blocking_messages=False,
        gradient_bytes=2,
        weights_gathered=False,
        accumulate_bytes=6,
        update_bytes=62,
        bucket_bytes=0,  # its gradients lie in contiguous buffers
        loss_bytes=(38, 14),
        cuts_sequence=False,
    ),
    # Smith et al. 2022 and Megatron-DeepSpeed of that time: bf16 gradients added to fp32 sums (6 read, 4 written, 2
    # zeroed), which its pipeline engine reduces after the last backward pass; each replica updates its share (norm 4,
    # clip 8, Adam 28, to bf16 6). The factor is fitted: benchmarks/planner_rows.py.
    "megatron-deepspeed-2022": Stack(
        kernel_factor=1.201,
        materialized_attention=True,
        dropout=0.1,
        scatter_gather=False,
        blocking_messages=True,
        gradient_bytes=4,
        weights_gathered=True,
        accumulate_bytes=12,
        update_bytes=46,
        bucket_bytes=0,  # not counted when its factor was fitted
        loss_bytes=(38, 14),
        interleaves=False,  # DeepSpeed's pipeline engine
        cuts_sequence=False,
    ),
    # Megatron-core with DeepSpeed's ZeRO, as this project runs it; attention and loss are one compiled kernel each. Not
    # calibrated: its factor is taken as Megatron-LM's. In fp32 an update copies gradients and joins them, 8 each, and
    # its weights are 2 bytes longer.
    "this": Stack(
        kernel_factor=1.0,
        materialized_attention=False,
        dropout=None,
        scatter_gather=False,
        blocking_messages=True,
        gradient_bytes=4,
        weights_gathered=True,
        accumulate_bytes=12,
        update_bytes=46,
        fp32_update_bytes=18,
        bucket_bytes=32,  # copied into the bucket, joined, divided by the replicas, copied to where it belongs
        loss_bytes=(14, 10),
    ),
}
