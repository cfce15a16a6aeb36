"""Random numbers of dropout: a pure function of (seed, step, coordinates), so that there is no state to save.

Two streams, as Megatron has them: the default one is equal on the ranks of a tensor-parallel group (dropout of
activations they all hold whole), the tracker's `model-parallel-rng` differs (dropout of what is cut over them).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
from collections.abc import Iterator
from typing import Any

import torch

from megatron_nlg.parallel.device import MCORE_RANDOM, Device
from megatron_nlg.parallel.layout import Coordinates

MODEL_PARALLEL = "model-parallel-rng"


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from any printable parts, equal on every machine."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class CpuRngTracker:
    """Megatron-core's CUDA RNG tracker on the CPU generator."""

    def __init__(self) -> None:
        self.states: dict[str, torch.Tensor] = {}

    def add(self, name: str, seed: int) -> None:
        """Start the named stream at a seed."""
        self.states[name] = torch.Generator().manual_seed(seed).get_state()

    def is_initialized(self) -> bool:
        """Megatron-core asks before it forks."""
        return bool(self.states)

    def get_states(self) -> dict[str, torch.Tensor]:
        """Streams by name; recomputation saves them before the forward pass..."""
        return dict(self.states)

    def set_states(self, states: dict[str, torch.Tensor]) -> None:
        """...and restores them before it runs again."""
        self.states = dict(states)

    def reset(self) -> None:
        """Forget all streams."""
        self.states = {}

    @contextlib.contextmanager
    def fork(self, name: str = MODEL_PARALLEL) -> Iterator[None]:
        """Draw from the named stream inside the block."""
        default = torch.get_rng_state()
        torch.set_rng_state(self.states[name])
        try:
            yield
        finally:
            self.states[name] = torch.get_rng_state()
            torch.set_rng_state(default)


def seed_step(seed: int, step: int, at: Coordinates, device: Device) -> None:
    """Set both streams for a step on this rank; call before the model is built (step 0) and before every step."""
    common = derive_seed(seed, step, at.pipe, at.data, at.context)
    cut = derive_seed(seed, step, at.pipe, at.data, at.context, "tensor", at.tensor)
    random: Any = importlib.import_module(MCORE_RANDOM)
    torch.manual_seed(common)
    if device.torch.type == "cuda":
        random.initialize_rng_tracker()
        tracker = random.get_cuda_rng_tracker()
        tracker.reset()
    else:
        tracker = CpuRngTracker()
        vars(random)["_CUDA_RNG_STATE_TRACKER"] = tracker
        vars(random)["_CUDA_RNG_STATE_TRACKER_INITIALIZED"] = True
    tracker.add(MODEL_PARALLEL, cut)
