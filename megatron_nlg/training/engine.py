"""Model chunks inside a DeepSpeed engine, and one optimizer step over them.

Megatron-core's schedules (no pipeline, 1F1B, interleaved) run forward and backward over all micro-batches; DeepSpeed
keeps the optimizer state cut over data-parallel ranks (ZeRO), sums gradients in fp32, clips and updates. The two meet
in three places, all in this file:

- DeepSpeed runs with `managed_gradient_accumulation: false`: it leaves it to the caller when a step is complete, and
  `deepspeed.step()` alone reduces, clips, updates and clears;
- Megatron-core calls `finalize_model_grads_func` once after the last backward pass, where the gradients that tensor and
  pipeline ranks share are summed;
- the loss is divided by the number of tokens of the whole global batch, so that a mask that is uneven over
  micro-batches or ranks weighs every token alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import deepspeed

# DeepSpeed would import these when it makes an engine: here it is done once, before ranks fork.
import deepspeed.module_inject.auto_ep_layer
import deepspeed.runtime.zero.muon.muon_optimizer
import torch
import torch.distributed as dist
from torch import Tensor, nn

from megatron_nlg.config.schema import RunConfig
from megatron_nlg.model.attention import document_mask, own_positions
from megatron_nlg.model.classifier import class_logits
from megatron_nlg.model.forward import MicroBatch, logits, own_part, run_schedule
from megatron_nlg.model.gpt import build_chunks
from megatron_nlg.model.kernels import choose
from megatron_nlg.model.naming import NamedParameter, named_parameters
from megatron_nlg.parallel.context import DeepSpeedMpu, ParallelContext
from megatron_nlg.parallel.rng import seed_step
from megatron_nlg.training.phases import Phases

LOSS_SCALE_STATE = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")


@dataclass(frozen=True)
class StepResult:
    """Both are scalars on the device, equal on all ranks."""

    loss: Tensor
    """Mean loss per token of the global batch, in nats."""
    grad_norm: Tensor | float
    """Global L2 norm of the gradient before clipping; infinite when it is not finite, NaN when it was not computed."""
    skipped: str | None = None
    """Why the step changed nothing, on all ranks alike; None when it was applied."""


class ChunkBox(nn.Module):
    """All chunks as the one module that DeepSpeed wraps; called with the chunk's number first."""

    def __init__(self, chunks: Sequence[nn.Module]):
        super().__init__()
        self.chunks = nn.ModuleList(chunks)

    def forward(self, number: int, *args: Any, **options: Any) -> Tensor:
        """Run one chunk."""
        out: Tensor = self.chunks[number](*args, **options)
        return out


class Engine:
    """A model, its optimizer, and the step. Every method is collective: all ranks call it together."""

    def __init__(self, config: RunConfig, context: ParallelContext):
        self.config = config
        self.context = context
        self.phases = Phases()
        self._discarded = 0
        seed_step(config.seed, 0, context.at, context.device)
        self.kernels = choose(context.device, config.parallel, config.kernels, masked=config.data.reset_attention)
        self.chunks = build_chunks(config, context, self.kernels)
        self._number = {id(chunk): number for number, chunk in enumerate(self.chunks)}
        self.deepspeed, *_ = deepspeed.initialize(
            model=ChunkBox(self.chunks),
            optimizer=self._adamw(),
            mpu=DeepSpeedMpu(context),
            config=deepspeed_config(config, sum(p.numel() for chunk in self.chunks for p in chunk.parameters())),
        )
        self._mark_shared_gradients()
        plain = config.precision == "fp32" and config.parallel.zero_stage == 1 and not config.parallel.offload_optimizer
        self._alone = plain and context.layout.copies == 1
        self.deepspeed.enable_backward_allreduce = not self._alone
        if config.precision == "fp16":
            self.chunks[0].config.grad_scale_func = self._scaled
            # The loss is multiplied by the number of replicas as well: overflow must not depend on it.
            scaler = self.deepspeed.optimizer.loss_scaler
            scaler.min_scale /= context.layout.copies
            scaler.cur_scale /= context.layout.copies

    def parameters(self) -> Iterator[NamedParameter]:
        """This rank's parameters under their global names."""
        return named_parameters(self.chunks)

    def train_step(
        self,
        micro_batches: Sequence[MicroBatch],
        lr: float,
        step: int,
        objection: Callable[[float], str | None] | None = None,
    ) -> StepResult:
        """One optimizer step over this rank's micro-batches of the global batch, at a learning rate.

        `step` seeds dropout. A step whose gradient is not finite changes nothing but is counted by `skipped_steps`; so
        is one to whose loss there is an `objection`. Asking for one waits for the loss before the update.
        """
        loss = self._gradients(micro_batches, step)
        if objection is not None and (reason := objection(float(loss))):
            self._discard()
            self._discarded += 1
            return StepResult(loss, math.nan, reason)
        self.phases.enter("optimizer")
        for group in self.deepspeed.optimizer.param_groups:
            group["lr"] = lr
        before = self.deepspeed.skipped_steps
        if self._alone:
            self._hand_over_gradients()
        self.deepspeed.step()
        skipped = self.deepspeed.skipped_steps > before
        norm = self.deepspeed.get_global_grad_norm()
        return StepResult(loss, norm, "the gradient is not finite" if skipped else None)

    def repeat(self, micro_batches: Sequence[MicroBatch], step: int) -> Tensor:
        """Forward and backward pass of a step, without the step; returns the loss."""
        loss = self._gradients(micro_batches, step)
        self._discard()
        return loss

    @torch.no_grad()
    def evaluate(self, micro_batches: Sequence[MicroBatch]) -> Tensor:
        """Mean loss per token over a global batch, without a step."""
        with self.evaluating():
            return self._forward_backward(micro_batches, forward_only=True)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """The model without dropout."""
        self.deepspeed.module.eval()
        yield
        self.deepspeed.module.train()

    def logits(self, tokens: Tensor) -> Tensor:
        """tokens [batch, sequence] -> logits [batch, sequence, padded vocabulary] in fp32, on every rank."""
        self.deepspeed.module.eval()
        return logits(self.chunks, self.context, tokens, self._run_chunk)

    def class_logits(self, micro_batches: Sequence[MicroBatch]) -> Tensor:
        """Of a classifier: logits [texts of this rank's micro-batches, classes] in fp32, on every rank of a replica."""
        self.deepspeed.module.eval()
        out = class_logits(self.chunks, self.context, micro_batches, self._run_chunk)
        self.deepspeed.module.train()
        return out

    @property
    def skipped_steps(self) -> int:
        """Steps that changed nothing because their gradient was not finite, or because of an objection."""
        return int(self.deepspeed.skipped_steps) + self._discarded

    @property
    def searches_scale(self) -> bool:
        """Whether gradients that are not finite are part of the search for a loss scale (fp16)."""
        return bool(self.deepspeed.fp16_enabled() and self.deepspeed.dynamic_loss_scale())

    def loss_scale_state(self) -> dict[str, float]:
        """What fp16's dynamic loss scale has learnt; nothing in other precisions."""
        if self.config.precision != "fp16":
            return {}
        scaler = self.deepspeed.optimizer.loss_scaler
        state = {name: getattr(scaler, name) for name in LOSS_SCALE_STATE}
        return {**state, "cur_scale": state["cur_scale"] * self.context.layout.copies}

    def restore_loss_scale(self, state: Mapping[str, float]) -> None:
        """Go on with the loss scale of `loss_scale_state`."""
        if state and self.config.precision == "fp16":
            scaler = self.deepspeed.optimizer.loss_scaler
            for name in LOSS_SCALE_STATE:
                setattr(scaler, name, state[name])
            scaler.cur_scale /= self.context.layout.copies

    def create_moments(self) -> None:
        """Make room for Adam's moments, which a fresh optimizer has not got, so that a checkpoint can fill them."""
        optimizer = self.deepspeed.optimizer
        if self.config.parallel.zero_stage == 3:  # its partitions are linked by a step only
            shape = (self.config.batch.micro, self.config.model.sequence_length)
            zeros = torch.zeros(shape, dtype=torch.long, device=self.context.device.torch)
            self.train_step([{"tokens": zeros, "labels": zeros, "loss_mask": zeros.float() + 1}], 0.0, 0)
            return
        for group in optimizer.optimizer.param_groups:
            for parameter in group["params"]:
                optimizer.optimizer.state[parameter] = {
                    "step": torch.zeros((), device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }

    def link_moments(self) -> bool:
        """Let DeepSpeed find each parameter's part of the moments; False when there are none before the first update.

        DeepSpeed links all parameter groups after the first one's first update, when the others have no moments yet.
        """
        optimizer = self.deepspeed.optimizer
        if not any("exp_avg" in state for state in optimizer.optimizer.state.values()):
            return False
        if self.config.parallel.zero_stage < 3:
            optimizer._hp_optimizer_states_linked = False
            optimizer._lazy_init_hp_params_optimizer_state()
        return True

    def set_update_count(self, updates: int) -> None:
        """Tell Adam how many updates it has made (its bias correction)."""
        for state in self.deepspeed.optimizer.optimizer.state.values():
            if "step" in state:
                state["step"].fill_(updates)
        # apex counts in the parameter group
        for group in self.deepspeed.optimizer.optimizer.param_groups:
            if "step" in group:
                group["step"] = updates

    def share(self, parameter: nn.Parameter, states: Sequence[str | None]) -> tuple[int, int, list[Tensor]]:
        """This rank's range of a flattened parameter: its start and length, and per state its own flat memory there.

        A state is one of Adam's moments (see link_moments), or None for the fp32 master. The memory is the optimizer's,
        on whatever device and of whatever precision it is; it may be longer than the range (ZeRO-3 pads).
        """
        if self.config.parallel.zero_stage == 3:
            zero = self.deepspeed.optimizer
            flats = [zero._get_fp32_opt_state_partition(parameter, True, state)[0] for state in states]
            start, numel = zero._get_param_partition_rank(parameter) * flats[0].numel(), vars(parameter)["ds_numel"]
            return start, max(0, min(flats[0].numel(), numel - start)), flats
        mapping = vars(parameter)["_hp_mapping"]
        if mapping is None:
            return 0, 0, [torch.empty(0)] * len(states)
        address = mapping.lp_fragment_address
        return address.start, address.numel, [mapping.get_hp_fragment(state) for state in states]

    def refresh_weights(self) -> None:
        """Make the model's own weights those of the fp32 masters, of which every rank has filled its share."""
        zero = self.deepspeed.optimizer
        if self.config.parallel.zero_stage < 3:
            zero.update_lp_params()
            return
        for number in range(len(zero.fp32_partitioned_groups_flat)):
            zero._reassign_or_swap_out_partitioned_parameters(number)

    def destroy(self) -> None:
        """Release DeepSpeed's hooks and buffers."""
        self.deepspeed.destroy()

    # ---- the step ------------------------------------------------------------------------------------------------

    def _gradients(self, micro_batches: Sequence[MicroBatch], step: int) -> Tensor:
        """Forward and backward pass; returns the loss."""
        if self.config.model.dropout:
            seed_step(self.config.seed, step, self.context.at, self.context.device)
        self.deepspeed.module.train()
        return self._forward_backward(micro_batches, forward_only=False)

    def _discard(self) -> None:
        """Throw this step's gradients away, with no trace in weights, moments, loss scale or counters."""
        optimizer = self.deepspeed.optimizer
        if (
            self.config.parallel.zero_stage == 1 and not self.config.parallel.offload_optimizer
        ):  # nothing is reduced yet
            optimizer.zero_grad()
            return
        # Stages 2 and 3 have begun to reduce: DeepSpeed's own way for gradients that are not finite clears all of it.
        infinite = torch.tensor(math.inf, device=self.context.device.torch)
        pretended = {
            "scaled_global_norm": lambda *_, **__: infinite,
            "_get_norm_groups": lambda *_, **__: [infinite],
            "_update_scale": lambda *_, **__: None,
        }
        before = self.deepspeed.skipped_steps, self.deepspeed.global_steps
        vars(optimizer).update(pretended)
        try:
            self.deepspeed.step()
        finally:
            for name in pretended:
                del vars(optimizer)[name]
        self.deepspeed.skipped_steps, self.deepspeed.global_steps = before

    def _forward_backward(self, micro_batches: Sequence[MicroBatch], forward_only: bool) -> Tensor:
        """Run the schedule; returns the mean loss per token of the global batch on every rank."""
        micro_batches = [own_part(batch, self.context) for batch in micro_batches]
        # Sums over ranks make all of them wait for the slowest: kept apart from a rank's own work.
        enter = (lambda _: self.phases.beat()) if forward_only else self.phases.enter
        enter("wait")
        tokens = torch.stack([batch["loss_mask"].sum() for batch in micro_batches]).sum().float()
        dist.all_reduce(tokens, group=self.context.data_group)
        tokens.clamp_(min=1)

        def forward_loss(batches: Iterator[MicroBatch], chunk: nn.Module) -> tuple[Tensor, Any]:
            batch = next(batches)
            mask = self._document_mask(batch["documents"]) if "documents" in batch else None
            out = self._run_chunk(chunk, batch["tokens"], batch["positions"], mask, labels=batch["labels"])

            def loss(per_token: Tensor) -> tuple[Tensor, Tensor, Tensor]:
                mean = (per_token.float() * batch["loss_mask"]).sum() / tokens
                # DeepSpeed averages gradients over ranks with equal weights, and the parts of a mean are to be summed.
                return mean * self.context.layout.copies, batch["loss_mask"].sum().int(), mean.detach()

            return out, loss

        enter("forward-backward")
        losses = run_schedule(self.chunks, micro_batches, forward_loss, forward_only)
        enter("wait")
        total = torch.stack(losses).sum() if losses else torch.zeros((), device=self.context.device.torch)
        dist.all_reduce(total, group=self.context.data_group)
        dist.all_reduce(total, group=self.context.pipeline_group)  # stages before the last contribute 0
        return total

    def _hand_over_gradients(self) -> None:
        """Give ZeRO the gradients as they are, where no other rank has a part in them.

        Its reduction would copy each into a bucket and back. In 16 bits its sums are flat already.
        """
        zero = self.deepspeed.optimizer
        for group, parameters in enumerate(zero.params_in_partition):
            zero.all_grad_tensors[group] = zero.get_all_grad_tensors(parameters, torch.float32)
        zero.finalize_gradient_accumulation_boundary()

    def _scaled(self, loss: Tensor) -> Tensor:
        """A loss times the current scale of fp16; called on the last stage before every backward pass."""
        scaled: Tensor = self.deepspeed.scale(loss)
        return scaled

    def _document_mask(self, documents: Tensor) -> Tensor:
        """Where this rank's tokens must not look, from the document numbers of the whole sequence."""
        at, layout = self.context.at, self.context.layout
        return document_mask(documents, own_positions(documents.shape[1], at.context, layout.context, documents.device))

    def _run_chunk(self, chunk: nn.Module, *args: Any, **options: Any) -> Tensor:
        """Through DeepSpeed where its hooks gather or cut what a chunk needs (ZeRO-2, 3, offload), else directly."""
        out: Tensor
        self.phases.beat()
        if self.config.parallel.zero_stage >= 2 or self.config.parallel.offload_optimizer:
            out = self.deepspeed(self._number[id(chunk)], *args, **options)
        else:
            out = chunk(*args, **options)
        return out

    # ---- construction --------------------------------------------------------------------------------------------

    def _adamw(self) -> torch.optim.Optimizer:
        """AdamW over two groups: matrices decay, biases and norms do not."""
        settings = self.config.optimizer
        matrices = [p for chunk in self.chunks for p in chunk.parameters() if p.dim() >= 2]
        vectors = [p for chunk in self.chunks for p in chunk.parameters() if p.dim() < 2]
        groups = [
            {"params": matrices, "weight_decay": settings.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        options: dict[str, Any] = {"lr": settings.lr, "betas": (settings.beta1, settings.beta2), "eps": settings.eps}
        if self.kernels.fused_adam is not None:
            adam: torch.optim.Optimizer = self.kernels.fused_adam(groups, **options)
            return adam
        return torch.optim.AdamW(groups, fused=True, **options)

    def _mark_shared_gradients(self) -> None:
        """Arrange the sums over tensor and pipeline ranks that neither library makes here."""
        parallel = self.config.parallel
        sequence_cut = [
            item.parameter
            for item in self.parameters()
            if parallel.sequence and getattr(item.parameter, "sequence_parallel", False)
        ]
        tied = self._tied_embedding()
        if tied is not None and not self.chunks[0].pre_process:
            tied.ds_pipe_replicated = True  # type: ignore[attr-defined]  # counted once in DeepSpeed's gradient norm
        if (
            parallel.zero_stage >= 2 or parallel.offload_optimizer
        ):  # gradients are reduced and freed inside the backward pass: sum them as they arise
            for parameter in sequence_cut:
                parameter.register_hook(self._summed_over_tensor_ranks)  # type: ignore[no-untyped-call]
            sequence_cut = []
        self._sequence_cut, self._tied = sequence_cut, tied
        self.chunks[0].config.finalize_model_grads_func = self._finalize_gradients

    def _tied_embedding(self) -> nn.Parameter | None:
        """The copy of the tied embedding that this stage must keep equal to another stage's."""
        tied = self.config.model.tie_embeddings and not self.config.classes
        if self.context.embedding_group is None or not tied:
            return None
        end = self.chunks[0] if self.chunks[0].pre_process else self.chunks[-1]
        weight: nn.Parameter = end.shared_embedding_or_output_weight()
        return weight

    def _finalize_gradients(self, model: Any, num_tokens: Tensor | None = None, **_: Any) -> None:
        """Megatron-core calls this once a step, after the last backward pass and before the data-parallel reduction."""
        if self._sequence_cut:
            gradients = [gradient(p) for p in self._sequence_cut]
            flat = torch.cat([g.reshape(-1) for g in gradients])
            dist.all_reduce(flat, group=self.context.tensor_group)
            for g, summed in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
                g.copy_(summed.view_as(g))
        if self._tied is not None:
            dist.all_reduce(gradient(self._tied), group=self.context.embedding_group)

    def _summed_over_tensor_ranks(self, grad: Tensor) -> Tensor:
        grad = grad.clone()
        dist.all_reduce(grad, group=self.context.tensor_group)
        return grad


def gradient(parameter: nn.Parameter) -> Tensor:
    """Where a parameter's accumulated gradient is: DeepSpeed's fp32 sum under bf16 and under fp16, else `.grad`."""
    places = (getattr(parameter, "_hp_grad", None), getattr(parameter, "grad_accum", None), parameter.grad)
    found = next((place for place in places if place is not None), None)
    if found is None:
        raise RuntimeError("a parameter that tensor or pipeline ranks share has no gradient after the backward pass")
    return found


def deepspeed_config(config: RunConfig, parameters: int) -> dict[str, Any]:
    """DeepSpeed's own config, for a rank with so many parameters.

    The batch sizes in it are unused: the caller decides when a step is complete.
    """
    # A bucket is allocated whole: 2 GB by default, also for the smallest model.
    zero: dict[str, Any] = {"stage": config.parallel.zero_stage, "reduce_bucket_size": min(parameters, 500_000_000)}
    if config.parallel.zero_stage == 3:
        zero["stage3_param_persistence_threshold"] = 0
    if config.parallel.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    settings: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": config.batch.micro,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": config.optimizer.clip_grad_norm,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # torch's fused AdamW updates on the host as well
        "steps_per_print": 2**62,
    }
    if config.precision == "bf16":
        # Every backward pass adds its gradient to fp32 sums at once: without this, sums stay empty under a pipeline.
        settings["bf16"] = {"enabled": True, "immediate_grad_update": True}
    if config.precision == "fp16":
        scale = config.loss_scale
        settings["fp16"] = {
            "enabled": True,
            "initial_scale_power": round(math.log2(scale.initial)),
            "loss_scale_window": scale.window,
            "hysteresis": scale.hysteresis,
            "min_loss_scale": scale.minimum,
        }
    if config.precision != "fp32":  # sums over micro-batches and over replicas alike
        settings["data_types"] = {"grad_accum_dtype": "fp32"}
        settings["communication_data_type"] = "fp32"
    return settings
