"""Activations of a run's model, in any layout: stages hand on as in generation, and rank 0 gets the means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from data_prep.files import file_sha256
from data_prep.tokenizer import Tokenizer
from megatron_nlg.analysis.representations import (
    BATCH_TOKENS,
    Batch,
    Found,
    Head,
    Input,
    Linear,
    Pooling,
    Represented,
    batches,
    pool,
)
from megatron_nlg.config.errors import ConfigError, Problem
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.data.tokenizer import classifier_tokenizer, run_tokenizer
from megatron_nlg.generation.weights import Weights, load_weights
from megatron_nlg.model.gpt import GPT
from megatron_nlg.training.checkpoint.format import MANIFEST, name_of
from megatron_nlg.training.checkpoint.store import CLASSES

T = TypeVar("T")
Means = dict[int, Tensor]
"""Layer -> [spans, hidden size]"""


class RunBlocks(Represented):
    """Blocks of a run: pre-trained, imported, or a classifier. Collective: all ranks call its methods alike.

    Data-parallel ranks share the work.
    """

    summary: Pooling = "last"

    def __init__(self, config: RunConfig, tokenizer: Tokenizer, weights: Weights):
        if config.parallel.context > 1:
            value = config.parallel.context
            problem = Problem("parallel.context", f"{value}: analysis reads whole texts", "leave it out")
            raise ConfigError([problem], "analysis")
        self.config, self.tokenizer, self.weights = config, tokenizer, weights
        self.context, self.chunks = weights.context, weights.chunks
        self.layers, self.hidden_size = config.model.num_layers + 1, config.model.hidden_size
        self.max_length, self.is_main = config.model.sequence_length, self.context.is_main
        self.identity: dict[str, Any] = {"step": weights.progress.step, "precision": config.precision}
        self._cut = config.parallel.tensor if config.parallel.sequence else 1  # ranks that share a sequence

    @classmethod
    def of(cls, config: RunConfig, run: Path, step: int | None = None) -> RunBlocks:
        """With the weights of a run's newest whole checkpoint, or of `step`'s."""
        settings = config.data.classification
        tokenizer = classifier_tokenizer(config, run) if settings else run_tokenizer(config, run)
        identity = {"tokenizer": tokenizer.identity} | ({CLASSES: list(settings.labels)} if settings else {})
        made = cls(config, tokenizer, load_weights(config, run, identity, step))
        manifest = run / "checkpoints" / name_of(made.identity["step"]) / MANIFEST
        made.identity |= {"checkpoint": file_sha256(manifest), "tokenizer": tokenizer.identity}
        return made

    def encode(self, text: str) -> list[int]:
        """Token ids of a text."""
        return self.tokenizer.encode(text)

    def head(self) -> Head | None:
        """As Represented."""
        settings, chunk = self.config.data.classification, self.chunks[-1]
        if settings is None:
            return None
        own = None
        if chunk.post_process and self.context.at.tensor == self.context.at.data == 0:
            weight, bias = (part.detach().float().cpu().numpy() for part in chunk.output_layer.parameters())
            own = Head((Linear(weight, bias),), settings.labels)
        return next((head for head in self._to_main(own) if head), None)

    def stream(self, inputs: Sequence[Input], batch_tokens: int | None = None) -> Iterator[Found]:
        """As Represented."""
        device, layout, mine = self.context.device.torch, self.context.layout, self.context.at.data
        every = list(batches(inputs, batch_tokens or BATCH_TOKENS[device.type], self._cut))
        # Stages work on different batches of a window at the same time.
        window = layout.data * (4 * layout.pipeline if layout.world_size > 1 else 1)
        for start in range(0, len(every), window):
            own = every[start : start + window][mine :: layout.data]
            found = [(batch.spans, self._means(batch.to(device))) for batch in own]
            yield from self._joined(self._to_main(found if self.context.at.tensor == 0 else []))

    def _to_main(self, value: T) -> list[T]:
        """On rank 0, what every rank has, by rank; nothing on the others."""
        ranks = self.context.layout.world_size
        if ranks == 1:
            return [value]
        found: Any = [None] * ranks if self.is_main else None
        dist.gather_object(value, found)
        return found or []

    def _joined(self, ranks: Sequence[Sequence[tuple[list[int], Means]]]) -> Iterator[Found]:
        """Layers of one batch, which lie on different stages, put together."""
        whole: dict[tuple[int, ...], Means] = {}
        for rank in ranks:
            for spans, means in rank:
                whole.setdefault(tuple(spans), {}).update(means)
        for numbers, means in whole.items():
            yield Found(list(numbers), torch.stack([means[layer] for layer in range(self.layers)]))

    # ---- one pass ------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _means(self, batch: Batch) -> Means:
        """Of this stage's layers, on the CPU."""
        found: Means = {}
        rank, columns = self.context.at.tensor, batch.tokens.shape[1] // self._cut
        first = rank * columns if self._cut > 1 else 0
        for chunk in self.chunks:
            for layer, hidden in self._layers(chunk, batch.tokens):
                found[layer] = pool(hidden, batch, first)
        if self._cut > 1 and found:
            every = torch.stack(list(found.values()))
            dist.all_reduce(every, group=self.context.tensor_group)
            found = dict(zip(found, every, strict=True))
        return {layer: means.cpu() for layer, means in found.items()}

    def _layers(self, chunk: GPT, tokens: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Layers of a chunk, with [this rank's columns, rows, hidden size] each."""
        stage, stages, group = self.context.at.pipe, self.context.layout.pipeline, self.context.pipeline_group
        before, after = (
            self.context.layout.rank(replace(self.context.at, pipe=(stage + by) % stages)) for by in (-1, 1)
        )
        rows, length = tokens.shape
        if chunk.pre_process:
            places = torch.arange(length, device=tokens.device).expand(rows, -1)
            hidden = chunk.embedding(input_ids=tokens, position_ids=places)
            yield 0, hidden
        else:
            like = next(chunk.parameters())
            hidden = like.new_empty(length // self._cut, rows, self.hidden_size)
            dist.recv(hidden, before, group=group)
        angles = chunk.rotary_pos_emb(length) if chunk.position_embedding_type == "rope" else None
        for block in chunk.decoder.layers:
            hidden, _ = block(hidden_states=hidden, attention_mask=None, rotary_pos_emb=angles)
            if block.layer_number == self.layers - 1:
                hidden = chunk.decoder.final_layernorm(hidden)
            yield block.layer_number, hidden
        if not chunk.post_process:
            dist.send(hidden.contiguous(), after, group=group)
