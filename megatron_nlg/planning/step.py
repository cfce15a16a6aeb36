"""Seconds of an optimizer step, and where they go: kernels, communication and the pipeline's schedule put together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from megatron_nlg.config.cluster import Cluster
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.parallel.layout import Layout
from megatron_nlg.planning.collectives import Peers, collective_seconds, message_seconds
from megatron_nlg.planning.communication import Transfer, step_transfers
from megatron_nlg.planning.kernels import Accelerator
from megatron_nlg.planning.layers import Passes, embedding_passes, head_passes, layer_passes, pass_starts
from megatron_nlg.planning.parameters import rank_parameters
from megatron_nlg.planning.sharing import simulate_shared
from megatron_nlg.planning.simulation import Pipeline, Simulated, simulate
from megatron_nlg.planning.stacks import STACKS, Name


@dataclass(frozen=True)
class Breakdown:
    """Seconds of a step by part, on the stage that ends last. They sum to the step."""

    compute: float
    tensor: float
    """Collectives within the passes: of tensor and context parallelism, and of ZeRO-2 and 3."""
    messages: float
    """Between stages, as far as a stage waits for its own."""
    bubble: float
    """Waiting for other stages."""
    data: float
    """Gradients summed over replicas, weights gathered, tied embeddings."""
    optimizer: float


@dataclass(frozen=True)
class Step:
    """A predicted step."""

    seconds: float
    breakdown: Breakdown
    simulated: Simulated


class StepModel:
    """Predicts steps of a config on a cluster."""

    def __init__(self, config: RunConfig, cluster: Cluster, ranks: int, stack: Name = "this"):
        self.config, self.cluster, self.stack = config, cluster, STACKS[stack]
        self.layout = Layout.of(config.parallel, ranks)
        self.accelerator = Accelerator.of(cluster, config.precision)
        layout = self.layout
        self.peers = {
            "tensor": Peers(layout.tensor, 1),
            "context": Peers(layout.context, layout.tensor),
            "copies": Peers(layout.copies, layout.tensor),
            "pipeline": Peers(layout.pipeline, layout.copies * layout.tensor),
            "ends": Peers(2, layout.copies * layout.tensor * (layout.pipeline - 1)),
        }

    def step(
        self, micro_batches: int, jitter: float = 0.0, seed: int = 0, slow_stages: Mapping[int, float] | None = None
    ) -> Step:
        """One step of `micro_batches` a replica. `slow_stages`: stage -> how many times as long its passes take."""
        if self.cluster.compute is not None and self.cluster.compute.cores is not None:
            return self._step_on_cores(micro_batches)
        stages = range(self.layout.pipeline)
        pipeline, _, talk = self._pipeline(micro_batches)
        slowness = np.array([[(slow_stages or {}).get(pipe, 1.0)] for pipe in stages])
        simulated = simulate(pipeline, jitter=jitter, seed=seed, slowness=slowness)
        after = [self._after(micro_batches, pipe) for pipe in stages]
        ends = [float(simulated.end[pipe][-1].max()) + after[pipe][0] for pipe in stages]
        last = int(np.argmax(ends))
        optimizer = max(update for _, update in after)
        talked = talk[last]
        elapsed = float((simulated.end[last] - simulated.begin[last]).sum())
        sends = self._sends(last, micro_batches) if self.stack.blocking_messages else 0
        waited = float(simulated.end[last][-1].max()) - elapsed
        messages = min(waited, sends * pipeline.message)
        breakdown = Breakdown(elapsed - talked, talked, messages, waited - messages, after[last][0], optimizer)
        return Step(ends[last] + optimizer, breakdown, simulated)

    def _step_on_cores(self, micro_batches: int) -> Step:
        """The ranks of a node share its cores: all that a rank does, messages too, is work for them."""
        stages = range(self.layout.pipeline)
        pipeline, work, talk = self._pipeline(micro_batches)
        after = [self._after(micro_batches, pipe) for pipe in stages]
        alike = self.layout.copies * self.layout.tensor / self.cluster.nodes
        simulated = simulate_shared(
            pipeline, lambda busy: self.accelerator.speed(busy * alike), [sum(parts) for parts in after]
        )
        last = int(np.argmax([end[-1].max() for end in simulated.end]))
        seconds = float(simulated.end[last][-1].max())
        elapsed = float((simulated.end[last] - simulated.begin[last]).sum())
        messages = (self._sends(last, micro_batches) if len(stages) > 1 else 0) * pipeline.message
        parts = np.array([work[last], talk[last], messages, *after[last]])
        compute, tensor, sent, data, optimizer = (float(part) for part in parts * elapsed / parts.sum())
        return Step(seconds, Breakdown(compute, tensor, sent, seconds - elapsed, data, optimizer), simulated)

    def _pipeline(self, micro_batches: int) -> tuple[Pipeline, list[float], list[float]]:
        """The pipeline, and each stage's seconds a step of compute and of collectives."""
        compute, talk = self._compute(), self._talk(micro_batches)
        pipeline = Pipeline(
            forward=compute[0] + talk[0],
            backward=compute[1] + talk[1],
            micro_batches=micro_batches,
            message=self._message(micro_batches),
            blocking=self.stack.blocking_messages,
        )
        work, talked = (
            [micro_batches * float(sum(p[s].sum() for p in parts)) for s in range(self.layout.pipeline)]
            for parts in (compute, talk)
        )
        return pipeline, work, talked

    def estimate(self, micro_batches: int, stages: int) -> float:
        """Seconds of a step in closed form; this model's stages stand for `stages`, those between the ends repeated."""
        compute, talk = self._compute(), self._talk(micro_batches)
        passes = (compute[0] + talk[0] + compute[1] + talk[1]).sum(axis=1)
        message = self._message(micro_batches) * self.layout.interleave
        slowest = float(passes.max()) + (2 * message if self.stack.blocking_messages else 0.0)
        filled = float(passes[len(passes) // 2]) + 2 * message  # the pipeline fills and empties once
        steady = micro_batches * slowest + (stages - 1) / self.layout.interleave * filled
        after = [self._after(micro_batches, pipe) for pipe in range(self.layout.pipeline)]
        ends = max(data for data, _ in after) + max(update for _, update in after)
        # Where ranks share cores, all work is done at the speed that is left to each, if that takes longer.
        speed = self.accelerator.speed(stages * self.layout.copies * self.layout.tensor / self.cluster.nodes)
        return max(steady, micro_batches * float(passes.mean()) / speed) + ends / speed

    def _compute(self) -> tuple[np.ndarray, np.ndarray]:
        """Forward and backward seconds of a micro-batch without communication; [stages, chunks] each."""
        layout, config = self.layout, self.config
        chunk = layer_passes(config, self.accelerator, self.stack) * (
            config.model.num_layers / (layout.pipeline * layout.interleave)
        ) + pass_starts(self.accelerator, self.stack)
        passes = [[chunk] * layout.interleave for _ in range(layout.pipeline)]
        passes[0][0] = passes[0][0] + embedding_passes(config, self.accelerator, self.stack)
        passes[-1][-1] = passes[-1][-1] + head_passes(config, self.accelerator, self.stack)
        for pipe, row in enumerate(passes):
            summed = self.accelerator.memory(rank_parameters(config, pipe) * self.stack.accumulate_bytes)
            passes[pipe] = [part + Passes(0.0, summed / layout.interleave) for part in row]
        return (
            np.array([[part.forward for part in row] for row in passes]),
            np.array([[part.backward for part in row] for row in passes]),
        )

    def _talk(self, micro_batches: int) -> tuple[np.ndarray, np.ndarray]:
        """Seconds of a micro-batch's collectives; [stages, chunks] each. None of them is overlapped with compute."""
        shape = (self.layout.pipeline, self.layout.interleave)
        out = {"forward": np.zeros(shape), "backward": np.zeros(shape)}
        for pipe in range(self.layout.pipeline):
            for transfer in self._transfers(micro_batches, pipe):
                if transfer.phase == "step" or transfer.group in ("pipeline", "ends"):
                    continue
                seconds = self._seconds(transfer) / micro_batches
                if transfer.what == "embedding":
                    out[transfer.phase][pipe, 0] += seconds
                elif transfer.what in ("output layer", "loss"):
                    out[transfer.phase][pipe, -1] += seconds
                else:
                    out[transfer.phase][pipe] += seconds / self.layout.interleave
        if self._scatters:
            self._add_gathers(micro_batches, out)
        return out["forward"], out["backward"]

    def _add_gathers(self, micro_batches: int, out: dict[str, np.ndarray]) -> None:
        """A message that came in shares is gathered by the tensor ranks of the stage, before it is used."""
        for phase, pipe, without in (("forward", 0, (0, 0)), ("backward", -1, (-1, -1))):
            sent = self._transfers(micro_batches, pipe % self.layout.pipeline)
            for transfer in sent:
                if transfer.group == "pipeline" and transfer.phase == phase:
                    seconds = collective_seconds(self.cluster, "all_gather", transfer.bytes, self.peers["tensor"])
                    out[phase] += seconds
                    out[phase][without] -= seconds

    def _transfers(self, micro_batches: int, pipe: int) -> Sequence[Transfer]:
        return step_transfers(self.config, self.layout, micro_batches, pipe)

    def _seconds(self, transfer: Transfer, element_bytes: int | None = None) -> float:
        """Of all calls of a collective."""
        size, peers = transfer.elements * (element_bytes or transfer.element_bytes), self.peers[transfer.group]
        seconds = collective_seconds(self.cluster, transfer.operation, size, peers)
        return transfer.calls * (seconds + self._wait(transfer, peers.ranks))

    def _wait(self, transfer: Transfer, ranks: int) -> float:
        """Seconds that cores idle in a collective, where ranks share cores and no others have something to do.

        In the backward pass they do not: Megatron-core computes a weight's gradient in the meantime.
        """
        compute = self.cluster.compute
        if compute is None or compute.cores is None or transfer.phase == "backward" or ranks == 1:
            return 0.0
        others_wait_for_a_core = self.layout.world_size / self.cluster.nodes > max(compute.cores, ranks)
        return 0.0 if others_wait_for_a_core else compute.wait_us * 1e-6 * math.log2(ranks)

    def _message(self, micro_batches: int) -> float:
        """Seconds of sending one micro-batch's activations to the next stage."""
        sends = [t for t in self._transfers(micro_batches, 0) if t.group == "pipeline"]
        if not sends:
            return 0.0
        cut = self.layout.tensor if self._scatters else 1
        return message_seconds(self.cluster, sends[0].bytes / cut, self.peers["pipeline"])

    @property
    def _scatters(self) -> bool:
        return self.stack.scatter_gather and not self.config.parallel.sequence

    def _sends(self, pipe: int, micro_batches: int) -> int:
        return sum(t.calls for t in self._transfers(micro_batches, pipe) if t.group == "pipeline")

    def _after(self, micro_batches: int, pipe: int) -> tuple[float, float]:
        """Seconds after a stage's last backward pass: of communication, and of the optimizer."""
        stack, data = self.stack, 0.0
        for transfer in self._transfers(micro_batches, pipe):
            if transfer.phase != "step":
                continue
            if transfer.what == "weights" and not stack.weights_gathered:
                continue
            data += self._seconds(transfer, None if transfer.what == "weights" else stack.gradient_bytes)
        parameters = rank_parameters(self.config, pipe)
        if self.layout.copies > 1:
            data += self.accelerator.memory(parameters * stack.bucket_bytes)
        updated = parameters / (self.layout.copies if stack.weights_gathered else 1)
        moved = stack.update_bytes + (stack.fp32_update_bytes if self.config.precision == "fp32" else 0)
        return data, self.accelerator.memory(updated * moved)


def as_dict(breakdown: Breakdown) -> dict[str, float]:
    """Part -> seconds."""
    return asdict(breakdown)
