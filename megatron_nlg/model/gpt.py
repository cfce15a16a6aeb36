"""Run config -> this rank's chunks of Megatron-core's GPTModel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from megatron.core.models.gpt import GPTModel
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules, get_num_layers_to_build
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import Tensor

from megatron_nlg.config.schema import RunConfig
from megatron_nlg.model.attention import Rotary
from megatron_nlg.model.fused import ACTIVATIONS, FusedMLP, activation
from megatron_nlg.model.initialization import initialize
from megatron_nlg.model.kernels import Kernels
from megatron_nlg.parallel.context import ParallelContext

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class GPT(GPTModel):  # type: ignore[misc]
    """Megatron-core's GPTModel with a padded vocabulary whose padding can't be predicted.

    Both copies of a tied embedding get their weights by name (`initialization.py`), so the all-reduce that
    Megatron-core makes for them is left out.
    """

    def __init__(
        self, *args: Any, true_vocab_size: int, cross_entropy: Callable[..., Tensor] | None = None, **options: Any
    ):
        self.true_vocab_size, self.cross_entropy = true_vocab_size, cross_entropy
        super().__init__(*args, **options)

    def setup_embeddings_and_output_layer(self) -> None:
        """Mark the embeddings' parameters."""
        if self.pre_process:
            self.embedding.word_embeddings.weight.is_embedding_or_output_parameter = True
        if self.post_process and self.output_layer.weight is not None:
            self.output_layer.weight.is_embedding_or_output_parameter = True

    def compute_language_model_loss(self, labels: Tensor, logits: Tensor) -> Tensor:
        """labels [batch, sequence], logits [sequence, batch, rows / tensor] -> loss per token [batch, sequence]."""
        if self.cross_entropy is not None:
            return self.cross_entropy(logits, labels, self.true_vocab_size)
        loss: Tensor = super().compute_language_model_loss(labels, self.mask_padding(logits))
        return loss

    def mask_padding(self, logits: Tensor) -> Tensor:
        """Set the logits of rows past the tokenizer's entries to the lowest number, in place.

        logits [..., rows / tensor]: this rank's rows, so that the first padded one depends on the tensor rank. Autograd
        need not know: the softmax is zero there, and so is the gradient; recorded, it would copy the whole gradient.
        """
        rows = logits.shape[-1]
        first = max(0, self.true_vocab_size - self.pg_collection.tp.rank() * rows)
        if first < rows:
            logits.detach()[..., first:] = torch.finfo(logits.dtype).min
        return logits


def transformer_config(config: RunConfig, context: ParallelContext, kernels: Kernels) -> TransformerConfig:
    """Megatron-core's own config for a run."""
    model, parallel = config.model, config.parallel
    dtype = DTYPES[config.precision]
    recompute: dict[str, Any] = {}
    if parallel.recompute == "full":
        recompute = {"recompute_granularity": "full", "recompute_method": "uniform", "recompute_num_layers": 1}
    elif parallel.recompute == "selective":
        recompute = {"recompute_granularity": "selective"}
    return TransformerConfig(
        num_layers=model.num_layers,
        hidden_size=model.hidden_size,
        num_attention_heads=model.num_attention_heads,
        num_query_groups=model.query_groups,
        ffn_hidden_size=model.ffn_size,
        activation_func=ACTIVATIONS[model.activation],
        gated_linear_unit=model.gated,
        add_bias_linear=model.bias,
        normalization="RMSNorm" if model.normalization == "rmsnorm" else "LayerNorm",
        layernorm_epsilon=model.norm_eps,
        hidden_dropout=model.dropout,
        attention_dropout=model.dropout,
        # Weights are filled by initialization.py; Megatron-core's own initialisation leaves them as allocated.
        init_method=_untouched,
        output_layer_init_method=_untouched,
        embedding_init_method=_untouched,
        tensor_model_parallel_size=parallel.tensor,
        pipeline_model_parallel_size=parallel.pipeline,
        virtual_pipeline_model_parallel_size=parallel.interleave if parallel.interleave > 1 else None,
        sequence_parallel=parallel.sequence,
        context_parallel_size=parallel.context,
        params_dtype=dtype,
        pipeline_dtype=dtype,
        bf16=config.precision == "bf16",
        fp16=config.precision == "fp16",
        # Losses are divided by the step's own count of tokens, in engine.py.
        calculate_per_token_loss=True,
        batch_p2p_comm=context.device.batched_p2p,
        batch_p2p_sync=False,
        deallocate_pipeline_outputs=True,
        # Fusions that need apex or Transformer Engine are chosen in kernels.py, the activation's is in fused.py.
        bias_activation_fusion=False,
        # Compiled random numbers are others than PyTorch's: with dropout it stays as it is on every device.
        bias_dropout_fusion=kernels.compiled and not model.dropout,
        masked_softmax_fusion=False,
        gradient_accumulation_fusion=False,
        apply_rope_fusion=False,
        persist_layer_norm=False,
        **recompute,
    )


def build_chunks(config: RunConfig, context: ParallelContext, kernels: Kernels) -> list[GPT]:
    """This rank's chunks of the model, first to last, with initial weights, on the device."""
    core = transformer_config(config, context, kernels)
    layout, at = context.layout, context.at
    norm = kernels.rms_norm if config.model.normalization == "rmsnorm" else kernels.layer_norm
    layer = get_gpt_layer_local_spec()
    layer.submodules.input_layernorm = norm
    layer.submodules.pre_mlp_layernorm = norm
    layer.submodules.self_attention.submodules.core_attention = kernels.core_attention
    layer.submodules.mlp = FusedMLP
    activate = kernels.compile(activation(config.model))
    learned = config.model.position_embedding == "learned"
    kind, head = _head(config)
    chunks = []
    for number in range(layout.interleave):
        virtual = number if layout.interleave > 1 else None
        # A block spec and not a bare layer spec: with the latter the final norm is one that refuses sequence parallel.
        count = get_num_layers_to_build(core, vp_stage=virtual)
        block = TransformerBlockSubmodules(layer_specs=[layer] * count, layer_norm=norm)
        chunk = kind(
            core,
            block,
            config.model.padded_vocab_size,
            config.model.sequence_length,
            true_vocab_size=config.model.vocab_size,
            cross_entropy=kernels.cross_entropy,
            pre_process=at.pipe == 0 and number == 0,
            post_process=context.is_last_stage and number == layout.interleave - 1,
            **head,
            position_embedding_type="learned_absolute" if learned else "rope",
            vp_stage=virtual,
        )
        for block_layer in chunk.decoder.layers:
            block_layer.mlp.activate = activate
        if not learned:
            chunk.rotary_pos_emb = Rotary(
                core,
                config.model.rotary_base,
                config.model.rotary_fraction,
                context.context_group,
                context.device.torch,
            )
        chunks.append(chunk.to(context.device.torch, DTYPES[config.precision]))
    initialize(chunks, config.model, config.seed, at.tensor, layout.tensor)
    return chunks


def _head(config: RunConfig) -> tuple[type[GPT], dict[str, Any]]:
    """The class of the task's chunks, and what it is to be told of its output layer."""
    if config.classes:
        from megatron_nlg.model.classifier import Classifier  # a subclass of GPT

        return Classifier, {"classes": config.classes}
    return GPT, {"share_embeddings_and_output_weights": config.model.tie_embeddings}


def _untouched(weight: Tensor) -> Tensor:
    return weight
