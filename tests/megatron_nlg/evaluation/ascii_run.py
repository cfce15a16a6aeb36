"""A run of random weights whose tokens are the characters of English text."""

from __future__ import annotations

from pathlib import Path

from megatron_nlg.config.schema import RunConfig
from tests.megatron_nlg.data.corpus import write_corpus
from tests.megatron_nlg.training.test_trainer import go
from tests.tiny import tiny
from tests.world import World

LENGTH = 512


def layout(run: Path, *overrides: str) -> RunConfig:
    """Its config in a layout."""
    return tiny(
        f"data.blend={run.parent / 'corpus' / 'blend.yaml'}",
        "data.split=[0.8, 0.2]",
        "evaluation.batches=0",
        f"model.sequence_length={LENGTH}",
        "model.num_layers=2",
        "model.hidden_size=32",
        "batch.micro=1",
        "batch.global=2",
        "checkpoint.interval=1",
        f"schedule.train_tokens={2 * 2 * LENGTH}",
        *overrides,
    )


def write_run(world: World, folder: Path) -> Path:
    """Two steps of training, and the checkpoints of both."""
    write_corpus(folder / "corpus", first_character=1)
    assert world.run(1, go, layout(folder / "run"), folder / "run") == ["done"]
    return folder / "run"
