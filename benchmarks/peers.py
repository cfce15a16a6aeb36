"""What our training step is measured against, each as plain as it can be: one process, AdamW, clipping.

In fp32, or with the usual autocast over fp32 weights where the config says bf16; on the device that ours is on.

nanoGPT is written here after its published architecture (pre-norm GPT-2, one matrix for queries, keys and values, SDPA,
tied head, F.cross_entropy, no dropout); transformers' GPT-2 is that library's own class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from megatron_nlg.config.schema import RunConfig
from megatron_nlg.parallel.context import ParallelContext
from megatron_nlg.training.engine import Engine

Step = Callable[[Tensor, Tensor], Tensor]
"""tokens and labels, [batch, sequence], on the device -> loss, after an update; nothing waits for it."""


class NanoBlock(nn.Module):
    def __init__(self, hidden: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.qkv, self.proj = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.up, self.down = nn.Linear(hidden, 4 * hidden), nn.Linear(4 * hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, hidden = x.shape
        parts = self.qkv(self.norm_1(x)).split(hidden, dim=2)
        q, k, v = (t.view(batch, length, self.heads, -1).transpose(1, 2) for t in parts)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(out.transpose(1, 2).reshape(batch, length, hidden))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


class NanoGPT(nn.Module):
    def __init__(self, config: RunConfig):
        super().__init__()
        model = config.model
        self.tokens = nn.Embedding(model.padded_vocab_size, model.hidden_size)
        self.positions = nn.Embedding(model.sequence_length, model.hidden_size)
        self.blocks = nn.ModuleList(
            NanoBlock(model.hidden_size, model.num_attention_heads) for _ in range(model.num_layers)
        )
        self.norm = nn.LayerNorm(model.hidden_size)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens: Tensor, labels: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.tokens.weight)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), labels.view(-1))


def adamw(module: nn.Module, config: RunConfig) -> torch.optim.Optimizer:
    settings = config.optimizer
    groups = [
        {"params": [p for p in module.parameters() if p.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in module.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, lr=settings.lr, betas=(settings.beta1, settings.beta2), eps=settings.eps, fused=True
    )


def loop(module: nn.Module, loss_of: Callable[[Tensor, Tensor], Tensor], config: RunConfig) -> Step:
    """A bare loop's step."""
    device = context_of(config).device.torch
    optimizer = adamw(module.to(device), config)

    def step(tokens: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            loss = loss_of(tokens, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), config.optimizer.clip_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step


_context: list[ParallelContext] = []


def context_of(config: RunConfig) -> ParallelContext:
    """One for all peers of a process."""
    if not _context:
        _context.append(ParallelContext.create(config))
    return _context[0]


def ours(config: RunConfig) -> Step:
    """The engine: Megatron-core's model and schedule inside DeepSpeed with ZeRO-1, on one rank."""
    engine = Engine(config, context_of(config))
    taken = 0

    def step(tokens: Tensor, labels: Tensor) -> Tensor:
        nonlocal taken
        taken += 1
        batch = {"tokens": tokens, "labels": labels, "loss_mask": torch.ones(tokens.shape, device=tokens.device)}
        return engine.train_step([batch], config.optimizer.lr, taken).loss

    return step


def bare(config: RunConfig) -> Step:
    """The same Megatron-core model in a bare loop: what the engine adds is the difference."""
    engine = Engine(config, context_of(config))
    [model] = engine.chunks
    engine.destroy()
    for parameter in model.parameters():  # of its own again, and no longer a view of DeepSpeed's flat buffer
        parameter.data = parameter.data.clone()

    def loss_of(tokens: Tensor, labels: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        loss: Tensor = model(tokens, positions, None, labels=labels).mean()
        return loss

    return loop(model, loss_of, config)


def nano_gpt(config: RunConfig) -> Step:
    """nanoGPT's architecture in a bare loop."""
    model = NanoGPT(config)
    return loop(model, model, config)


def compiled_nano_gpt(config: RunConfig) -> Step:
    """nanoGPT's architecture as its own training script runs it on GPUs: the whole model compiled."""
    model = NanoGPT(config).to(context_of(config).device.torch)
    return loop(model, torch.compile(model), config)


def transformers_gpt2(config: RunConfig) -> Step:
    """transformers' GPT-2 with SDPA, fed as its users do (it shifts the labels itself)."""
    from transformers import GPT2Config, GPT2LMHeadModel

    model = config.model
    settings = GPT2Config(
        vocab_size=model.padded_vocab_size,
        n_positions=model.sequence_length,
        n_embd=model.hidden_size,
        n_layer=model.num_layers,
        n_head=model.num_attention_heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        activation_function="gelu",
        use_cache=False,
        attn_implementation="sdpa",
    )
    network: Any = GPT2LMHeadModel(settings)
    return loop(network, lambda tokens, labels: network(input_ids=tokens, labels=tokens).loss, config)


PEERS: dict[str, Callable[[RunConfig], Step]] = {
    "ours": ours,
    "Megatron-core in a bare loop": bare,
    "nanoGPT": nano_gpt,
    "transformers GPT-2": transformers_gpt2,
}
