"""Texts that join a batch while others run, and that are dropped from it: nobody else's tokens change."""

from __future__ import annotations

from pathlib import Path

from megatron_nlg.config.validate import load_config
from megatron_nlg.data.tokenizer import run_tokenizer
from megatron_nlg.generation.generator import Generator
from megatron_nlg.generation.sampling import Sampling
from megatron_nlg.generation.scoring import Request, Scorer
from tests.megatron_nlg.serving.model import write_model
from tests.world import World

PROMPTS = [[5 * i + j for j in range(3 + 7 * i % 20)] for i in range(6)]
HOW = [Sampling(temperature=i % 2, max_tokens=12 + i, seed=i) for i in range(6)]


def coming_and_going(run: Path, *overrides: str) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """Tokens of each text in company, and alone. Between two passes a prompt is scored, on the same model."""
    config = load_config(run / "config.yaml", overrides)
    generator = Generator(config, run, run_tokenizer(config, run))
    batch, found = generator.batch(3, 60), dict[int, list[int]]()
    texts = list(generator.texts(PROMPTS, HOW, slide=False))
    batch.waiting.extend(texts[:4])  # one more than there are rows
    for step in range(60):
        found |= {piece.index: piece.result.tokens for piece in batch.advance() if piece.result}
        if step == 2:
            batch.drop(0)  # in the first row
            batch.waiting.append(texts[4])
            assert len(list(Scorer(generator).score([Request.whole(PROMPTS[2])]))) == 1
        if step == 4:
            batch.waiting.append(texts[5])
            batch.drop(5)  # waiting
            batch.drop(77)  # never there
    assert not batch
    alone = {
        index: next(iter(generator.generate([PROMPTS[index]], [HOW[index]]))).tokens for index in range(len(PROMPTS))
    }
    return found, alone


def test_coming_and_going(world: World, tmp_path: Path) -> None:
    run = write_model(tmp_path)[1]
    for found, alone in world.run(2, coming_and_going, run, "parallel.tensor=2"):
        assert sorted(found) == [1, 2, 3, 4]
        assert found == {index: alone[index] for index in found}
