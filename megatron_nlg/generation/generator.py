"""A run's model without its optimizer, and continuations of prompts by it.

Every token takes a pass over the whole text so far; a cache of keys and values is not kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from data_prep.tokenizer import Tokenizer
from megatron_nlg.config.schema import Checkpoint, KernelSettings, RunConfig
from megatron_nlg.generation.sampling import Sampling, next_token
from megatron_nlg.model.forward import logits
from megatron_nlg.model.gpt import build_chunks
from megatron_nlg.model.kernels import choose
from megatron_nlg.parallel.context import ParallelContext
from megatron_nlg.parallel.rng import seed_step
from megatron_nlg.training.checkpoint.format import model_identity
from megatron_nlg.training.checkpoint.store import Checkpoints


class Generator:
    """Weights of a run's newest whole checkpoint, in the layout of `config`. Every method is collective."""

    def __init__(self, config: RunConfig, run_folder: Path, tokenizer: Tokenizer):
        self.config, self.tokenizer = config, tokenizer
        self.context = ParallelContext.create(config)
        seed_step(config.seed, 0, self.context.at, self.context.device)
        uncompiled = KernelSettings(compiled=False)  # every token has a length of its own
        self.chunks = build_chunks(config, self.context, choose(self.context.device, config.parallel, uncompiled))
        for chunk in self.chunks:
            chunk.eval()
        checkpoints = Checkpoints(run_folder / "checkpoints", Checkpoint(), self.context)
        identity = {**model_identity(config), "tokenizer": tokenizer.identity}
        self.progress, self.damaged = checkpoints.load_weights(self.chunks, identity)
        checkpoints.close()

    def tokens(self, prompt: list[int], sampling: Sampling) -> Iterator[int]:
        """Continue a prompt token by token, up to the end-of-document token (not included) or max_tokens.

        Text longer than the model's sequence is cut at its start.
        """
        generator = torch.Generator().manual_seed(sampling.seed)
        text = list(prompt)
        for _ in range(sampling.max_tokens):
            window = torch.tensor([text[-self.config.model.sequence_length :]], device=self.context.device.torch)
            all_logits = logits(self.chunks, self.context, window)
            token = next_token(all_logits[0, -1, : self.config.model.vocab_size], sampling, generator)
            if token == self.tokenizer.eod:
                return
            text.append(token)
            yield token

    def text(self, prompt: str, sampling: Sampling) -> str:
        """Continue a prompt; an empty one starts a new document."""
        ids = self.tokenizer.encode(prompt) or [self.tokenizer.eod]
        return self.tokenizer.decode(list(self.tokens(ids, sampling)))
