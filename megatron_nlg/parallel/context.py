"""The process groups of a run: made once, passed on, shared by Megatron-core and DeepSpeed.

The only module-level state of the package is what the libraries keep themselves: torch.distributed's default group and
Megatron-core's parallel_state. `ParallelContext.create` fills both, `destroy` empties both.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from megatron_nlg.config.errors import InputError, MegatronNlgError, NodeFaultError
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.config.validate import data_parallel_size
from megatron_nlg.parallel.device import Device, select_device
from megatron_nlg.parallel.layout import Coordinates, Layout
from megatron_nlg.parallel.rendezvous import Rendezvous, number

T = TypeVar("T")


@dataclass(frozen=True)
class ParallelContext:
    """This rank's place and groups. Groups are torch.distributed process groups."""

    layout: Layout
    rank: int
    device: Device
    tensor_group: Any
    """Ranks that share every matrix."""
    data_group: Any
    """Ranks with the same weights: they see other samples or, under context parallelism, other parts of them."""
    context_group: Any
    """Ranks that share each sequence."""
    pipeline_group: Any
    """Ranks with the stages of this replica."""
    model_group: Any
    """Ranks of this replica: tensor × pipeline."""
    embedding_group: Any
    """First and last stage, which both hold the tied embedding; None on the others and without a pipeline."""

    @property
    def at(self) -> Coordinates:
        """This rank's coordinates."""
        return self.layout.coordinates(self.rank)

    @property
    def is_main(self) -> bool:
        """Whether this is the rank that writes files and talks."""
        return self.rank == 0

    @property
    def is_last_stage(self) -> bool:
        """Whether losses and logits arise here."""
        return self.at.pipe == self.layout.pipeline - 1

    @classmethod
    def create(cls, config: RunConfig, rendezvous: Rendezvous | None = None) -> ParallelContext:
        """Join the other ranks and make all groups. Raises ConfigError when the ranks do not fit the layout."""
        who = rendezvous or Rendezvous.from_environment() or Rendezvous()
        data_parallel_size(config, who.world_size)
        layout = Layout.of(config.parallel, who.world_size)
        device = select_device(who.local_rank, who.local_ranks)
        timeout = timedelta(seconds=config.distributed.timeout_seconds)
        _join(who, device, timeout)

        import deepspeed
        from megatron.core import parallel_state

        os.environ.setdefault("LOCAL_RANK", str(who.local_rank))  # DeepSpeed insists on it, also under plain srun
        deepspeed.init_distributed(dist_backend=device.backend, timeout=timeout, verbose=False)
        parallel_state.initialize_model_parallel(
            tensor_model_parallel_size=layout.tensor,
            pipeline_model_parallel_size=layout.pipeline,
            virtual_pipeline_model_parallel_size=layout.interleave if layout.interleave > 1 else None,
            context_parallel_size=layout.context,
            distributed_timeout_minutes=timeout.total_seconds() / 60,
        )
        ends = (0, layout.pipeline - 1)
        in_embedding_group = layout.pipeline > 1 and layout.coordinates(who.rank).pipe in ends
        return cls(
            layout=layout,
            rank=who.rank,
            device=device,
            tensor_group=parallel_state.get_tensor_model_parallel_group(),
            data_group=parallel_state.get_data_parallel_group(with_context_parallel=True),
            context_group=parallel_state.get_context_parallel_group(),
            pipeline_group=parallel_state.get_pipeline_model_parallel_group(),
            model_group=parallel_state.get_model_parallel_group(),
            embedding_group=parallel_state.get_embedding_group() if in_embedding_group else None,
        )

    def barrier(self) -> None:
        """Wait for all ranks."""
        dist.barrier()

    def any_rank(self, *flags: bool) -> tuple[bool, ...]:
        """Whether any rank says so, flag by flag: the same answers everywhere. Goes over the host, not the GPU."""
        tensor = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return tuple(map(bool, tensor.tolist()))

    def gather(self, value: T) -> list[T]:
        """What every rank has, by rank."""
        values: list[Any] = [None] * self.layout.world_size
        dist.all_gather_object(values, value)
        return values

    def destroy(self) -> None:
        """Leave all groups; a new context may be created afterwards."""
        import deepspeed.comm.comm
        from megatron.core import parallel_state

        parallel_state.destroy_model_parallel()
        dist.destroy_process_group()
        deepspeed.comm.comm.cdb = None


class DeepSpeedMpu:
    """The groups as DeepSpeed asks for them.

    Its model-parallel group is tensor × pipeline, so that the gradient norm is the whole replica's (with the tensor
    group alone it is silently one stage's); its model-parallel rank is the tensor rank, by which DeepSpeed counts
    replicated parameters once.
    """

    def __init__(self, context: ParallelContext):
        self._context = context

    def get_model_parallel_group(self) -> Any:
        """Tensor × pipeline."""
        return self._context.model_group

    def get_model_parallel_world_size(self) -> int:
        """Ranks in a replica."""
        return self._context.layout.tensor * self._context.layout.pipeline

    def get_model_parallel_rank(self) -> int:
        """Rank among those that share matrices."""
        return self._context.at.tensor

    def get_data_parallel_group(self) -> Any:
        """Same weights, other samples or other parts of them."""
        return self._context.data_group

    def get_data_parallel_world_size(self) -> int:
        """Ranks with the same weights."""
        return self._context.layout.copies

    def get_data_parallel_rank(self) -> int:
        """Rank among those with the same weights."""
        at = self._context.at
        return at.data * self._context.layout.context + at.context

    def get_tensor_model_parallel_rank(self) -> int:
        """Rank among those that share matrices."""
        return self._context.at.tensor

    def get_tensor_model_parallel_world_size(self) -> int:
        """Ranks that share matrices."""
        return self._context.layout.tensor


def _join(who: Rendezvous, device: Device, timeout: timedelta) -> None:
    """torch.distributed's default group, with the usual failures said plainly."""
    if dist.is_initialized():
        if dist.get_world_size() != who.world_size:
            raise MegatronNlgError(
                f"torch.distributed already has {dist.get_world_size()} ranks, and {who.world_size} were asked for"
            )
        return
    # Both backends where there is a GPU: flags and file names travel over the host.
    backend = "cpu:gloo,cuda:nccl" if device.backend == "nccl" else device.backend
    if who.world_size == 1 and "MASTER_ADDR" not in os.environ:
        store = dist.HashStore()  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=0, world_size=1, timeout=timeout)
        return
    port = number("MASTER_PORT", os.environ.get("MASTER_PORT", ""))
    if not 0 < port < 2**16:
        raise InputError(f"MASTER_PORT {port} in the environment: set it to a free port from 1 to 65535")
    where = f"{os.environ.get('MASTER_ADDR')}:{port}"
    try:
        dist.init_process_group(
            backend, init_method="env://", rank=who.rank, world_size=who.world_size, timeout=timeout
        )
    except dist.DistNetworkError as error:
        text = str(error)
        if "EADDRINUSE" in text or "address already in use" in text:
            raise InputError(
                f"MASTER_PORT: {where} is in use by another process; set MASTER_PORT to a free port"
            ) from None
        raise MegatronNlgError(f"rank {who.rank} can't reach {where} (MASTER_ADDR:MASTER_PORT): {text}") from None
    except dist.DistStoreError as error:
        raise NodeFaultError(
            f"not all {who.world_size} ranks met at {where} within {timeout.total_seconds():.0f} s "
            f"(distributed.timeout_seconds): {error}"
        ) from None
