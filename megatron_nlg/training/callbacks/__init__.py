"""What a run does beside training: one file each, told of events by the trainer (`base.Callback`)."""

from __future__ import annotations

from megatron_nlg.config.schema import RunConfig
from megatron_nlg.training.callbacks.base import Callback
from megatron_nlg.training.callbacks.metrics import MetricsFile
from megatron_nlg.training.callbacks.profiler import Profiler
from megatron_nlg.training.callbacks.progress import ProgressLine
from megatron_nlg.training.callbacks.tensorboard import TensorBoard
from megatron_nlg.training.callbacks.wandb import WandB


def standard_callbacks(config: RunConfig) -> list[Callback]:
    """Those that every run has, and those that its `log` section asks for."""
    callbacks: list[Callback] = [ProgressLine(), MetricsFile()]
    if config.log.tensorboard:
        callbacks.append(TensorBoard())
    if config.log.wandb:
        callbacks.append(WandB())
    if config.log.profile_steps:
        callbacks.append(Profiler())
    return callbacks
