"""A classifier in every layout, and against transformers'.

Tolerances as in training/test_engine.py: fp32 sums in another order, 1e-5 relative after steps of Adam.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import pad

from megatron_nlg.data.datasets import Datasets, build_datasets
from megatron_nlg.data.loader import Loader
from megatron_nlg.model.forward import MicroBatch
from megatron_nlg.model.naming import CLASSIFIER
from megatron_nlg.parallel.context import ParallelContext
from megatron_nlg.training.engine import Engine
from megatron_nlg.training.schedule import FixedBatches
from megatron_nlg.training.scores import score
from tests.megatron_nlg.data.texts import write_texts
from tests.tiny import tiny
from tests.world import World

LAYOUTS = [
    (2, "parallel.tensor=2"),
    (2, "parallel.tensor=2 parallel.sequence=true"),
    (2, "parallel.pipeline=2"),
    (2, ""),
    (2, "parallel.zero_stage=3"),
    (2, "parallel.zero_stage=2 parallel.recompute=full"),
    (8, "parallel.tensor=2 parallel.pipeline=2 parallel.interleave=2 parallel.sequence=true"),
]


def batches(data: Datasets, engine: Engine, split: str, count: int) -> list[list[MicroBatch]]:
    """This rank's share of the first global batches."""
    dataset: Any = data.train if split == "train" else data.valid["validation"]
    config, context = engine.config, engine.context
    loader = Loader(
        dataset,
        FixedBatches(config.batch.global_, count),
        micro_batch=config.batch.micro,
        data_rank=context.at.data,
        data_size=context.layout.data,
        padded_length=dataset.padded_length,
    )
    found = [batch.micro_batches for batch in loader]
    loader.close()
    return found


def learn(overrides: list[str], folder: Path) -> tuple[list[float], list[float], dict[str, Any]]:
    """Losses, gradient norms and scores of a few steps."""
    config = tiny("batch.micro=4", *overrides)
    context = ParallelContext.create(config)
    data, engine = build_datasets(config, folder), Engine(config, context)
    found = [engine.train_step(mb, 1e-3, step) for step, mb in enumerate(batches(data, engine, "train", 5))]
    scores = asdict(score(engine, batches(data, engine, "valid", 3)))
    engine.destroy()
    return [float(r.loss) for r in found], [float(r.grad_norm) for r in found], scores


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("texts")
    return folder, write_texts(folder)


@pytest.fixture(scope="module")
def alone(world: World, texts: tuple[Path, list[str]]) -> tuple[list[float], list[float], dict[str, Any]]:
    result: tuple[list[float], list[float], dict[str, Any]] = world.run(1, learn, texts[1], texts[0])[0]
    return result


@pytest.mark.parametrize(("ranks", "overrides"), LAYOUTS)
def test_every_layout_learns_the_same(
    world: World, texts: tuple[Path, list[str]], alone: Any, ranks: int, overrides: str
) -> None:
    losses, norms, scores = alone
    assert scores["examples"] == 37
    for got in world.run(ranks, learn, [*texts[1], *overrides.split()], texts[0]):
        assert got[0] == pytest.approx(losses, rel=1e-5)
        assert got[1] == pytest.approx(norms, rel=1e-4)
        assert got[2] == pytest.approx(scores, rel=1e-5)


def padded_otherwise(overrides: list[str], folder: Path) -> list[tuple[float, float]]:
    """Loss and gradient norm of a batch with more padding, of other tokens."""
    config = tiny(*overrides)
    context, data, found = ParallelContext.create(config), build_datasets(config, folder), []
    for extra, filler in ((0, 0), (0, 7), (1, 9), (5, 3)):
        engine = Engine(config, context)
        micro_batches = batches(data, engine, "train", 1)[0]
        for batch in micro_batches:
            after = batch["loss_mask"].flip(1).cumsum(1).flip(1) == 0
            for key in ("tokens", "labels"):
                batch[key] = pad(batch[key].masked_fill(after, filler % 2 if key == "labels" else filler), (0, extra))
            batch["loss_mask"] = pad(batch["loss_mask"], (0, extra))
        result = engine.train_step(micro_batches, 1e-3, 0)
        found.append((float(result.loss), float(result.grad_norm)))
        engine.destroy()
    return found


def test_padding_changes_no_loss_and_no_gradient(world: World, texts: tuple[Path, list[str]]) -> None:
    first, *others = world.run(1, padded_otherwise, texts[1], texts[0])[0]
    for other in others:
        assert other == pytest.approx(first, rel=1e-6)


def logits_and_head(overrides: list[str], run: Path, texts: list[list[int]]) -> tuple[Any, Any]:
    """Logits of texts by a classifier that starts from a run's weights, and its head."""
    from megatron_nlg.training.checkpoint.format import model_identity
    from megatron_nlg.training.checkpoint.store import Checkpoints

    config = tiny(*overrides, f"checkpoint.load_from={run}")
    context = ParallelContext.create(config)
    engine = Engine(config, context)
    checkpoints = Checkpoints(run / "none", config.checkpoint, context)
    checkpoints.load(engine, model_identity(config) | {"data.classification.labels": ["0", "1"]})
    assert checkpoints.left_initial == {"left_initial": f"{CLASSIFIER}*"}
    batch = {"tokens": torch.zeros(len(texts), 32, dtype=torch.long), "loss_mask": torch.zeros(len(texts), 32)}
    for row, tokens in enumerate(texts):
        batch["tokens"][row, : len(tokens)] = torch.tensor(tokens)
        batch["loss_mask"][row, len(tokens) - 1] = 1
    head = {item.name: item.parameter.detach().clone() for item in engine.parameters()}
    return engine.class_logits([batch]), head.get(f"{CLASSIFIER}weight")


@pytest.mark.parametrize("overrides", ["", "parallel.tensor=2 parallel.sequence=true"])
def test_logits_are_those_of_transformers(world: World, texts: Any, tmp_path: Path, overrides: str) -> None:
    from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel

    from megatron_nlg.training.checkpoint.huggingface import import_folder

    torch.manual_seed(0)
    shape = {"n_layer": 4, "n_embd": 64, "n_head": 4, "n_positions": 32, "vocab_size": 250}
    theirs = GPT2LMHeadModel(GPT2Config(**shape, pad_token_id=249, num_labels=2))
    theirs.save_pretrained(tmp_path / "theirs")
    import_folder(tmp_path / "theirs", tmp_path / "run")
    rows = [[5, 6, 7], [1], list(range(30))]
    ranks = 2 if overrides else 1
    more = ["model.activation=gelu_tanh", "model.vocab_multiple=128", "model.ffn_hidden_size=256", *overrides.split()]
    found = world.run(ranks, logits_and_head, [*texts[1], *more], tmp_path / "run", rows)
    oracle = GPT2ForSequenceClassification(theirs.config)
    oracle.transformer.load_state_dict(theirs.transformer.state_dict())
    oracle.score.weight.data.copy_(next(head for _, head in found if head is not None))
    oracle.eval()
    with torch.no_grad():
        wanted = torch.cat([oracle(torch.tensor([row])).logits for row in rows])
    for logits, _ in found:
        torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-5)
