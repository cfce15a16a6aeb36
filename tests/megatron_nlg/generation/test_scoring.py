"""Scores against transformers' own logits, however the requests share and are packed, in every layout."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch

from data_prep.tokenizer import CharacterTokenizer
from megatron_nlg.config.errors import InputError
from megatron_nlg.config.validate import load_config
from megatron_nlg.generation.generator import Generator
from megatron_nlg.generation.sampling import Sampling
from megatron_nlg.generation.scoring import Request, Score, Scorer
from megatron_nlg.training.checkpoint.huggingface import import_folder
from tests.megatron_nlg.training.checkpoint.test_huggingface import TOLERANCE, random_model
from tests.world import World

ENTRIES, LONGEST = 301, 32  # of the shape "tall"


def requests() -> list[Request]:
    """Alone, choices of one question, shared examples before several, one token, whole texts, too long."""
    draw = torch.Generator().manual_seed(1)

    def some(count: int) -> list[int]:
        return torch.randint(ENTRIES, (count,), generator=draw).tolist()

    shots, question = some(18), some(12)
    found = [Request(some(size), some(1 + size % 4)) for size in (1, 2, 9, 17, 28)]
    found += [Request(question, some(size)) for size in (1, 1, 1, 3, 5)]
    found += [Request(question, found[-1].continuation[:2])]
    for size in (2, 3, 4, 5) * 2:  # more than a row of 64 holds
        asked = shots + some(size)
        found += [Request(asked, some(2)), Request(asked, some(3)), Request(asked, some(1))]
    found += [Request.whole(some(size)) for size in (2, 20, 33)]
    found += [Request(some(60), some(4)), Request(some(31), some(2)), Request(some(5), some(32))]
    return found + found[:2]


def generator_of(run: Path, overrides: list[str]) -> Generator:
    config = load_config(run / "config.yaml", overrides)
    tokenizer = CharacterTokenizer("".join(map(chr, range(1000, 999 + config.model.vocab_size))))
    tokenizer.identity = None  # type: ignore[assignment] # the import had none
    return Generator(config, run, tokenizer)


def scores(run: Path, overrides: list[str], wanted: list[Request]) -> list[list[Score]]:
    """With and without the most probable tokens, in large and small batches, between a generator's own passes."""
    generator = generator_of(run, overrides)
    prompt, how = [[1, 2, 3]], [Sampling(temperature=0, max_tokens=5)]
    before = [result.tokens for result in generator.generate(prompt, how)]
    found = [list(Scorer(generator, size).score(wanted, top)) for size, top in ((4096, 0), (70, 3))]
    assert [result.tokens for result in generator.generate(prompt, how)] == before
    return [sorted(each, key=lambda score: score.index) for each in found]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A random model of transformers, and the run that it becomes."""
    folder = tmp_path_factory.mktemp("scoring")
    theirs = random_model("tall", folder / "source")
    import_folder(folder / "source", folder / "run")
    return theirs, folder / "run"


@pytest.mark.parametrize(
    ("ranks", "overrides"),
    [
        (1, ""),
        (2, "parallel.tensor=2"),
        (2, "parallel.pipeline=2"),
        (2, "batch.global=2"),
        (8, "parallel.tensor=2 parallel.pipeline=2 batch.global=2"),
    ],
)
def test_scores_are_those_of_transformers(world: World, weights: tuple[Any, Path], ranks: int, overrides: str) -> None:
    theirs, run = weights
    wanted = requests()
    found = world.run(ranks, scores, run, overrides.split(), wanted)
    assert all(other == found[0] for other in found)
    for each, top in zip(found[0], (0, 3), strict=True):
        assert [score.index for score in each] == list(range(len(wanted)))
        for score, request in zip(each, wanted, strict=True):
            text, count = (request.context + request.continuation)[-LONGEST - 1 :], len(request.continuation)
            with torch.no_grad():
                want = theirs(torch.tensor([text[:-1]])).logits[0, -count:].log_softmax(-1)
            own = want.gather(1, torch.tensor(request.continuation)[:, None])[:, 0]
            assert score.logprobs == pytest.approx(own.tolist(), abs=TOLERANCE)
            assert score.greedy == (want.argmax(-1) == torch.tensor(request.continuation)).tolist()
            assert (score.top is None) == (top == 0)
            if score.top is not None:
                assert [list(most) for most in score.top] == want.topk(3).indices.tolist()
                values = [list(most.values()) for most in score.top]
                assert list(chain.from_iterable(values)) == pytest.approx(
                    want.topk(3).values.flatten().tolist(), abs=TOLERANCE
                )


def refusals(run: Path) -> list[str]:
    scorer, said = Scorer(generator_of(run, [])), []
    for wrong in (Request([], [1]), Request([1], []), Request([1], [2] * 33), Request([1], [ENTRIES])):
        with pytest.raises(InputError) as error:
            list(scorer.score([Request([1], [2]), wrong]))
        said.append(str(error.value))
    assert list(scorer.score([])) == []
    return said


def test_what_can_not_be_scored(world: World, weights: tuple[Any, Path]) -> None:
    [said] = world.run(1, refusals, weights[1])
    for text, what in zip(
        said,
        (
            "its context has no tokens",
            "its continuation has no",
            "has 33 tokens, and the model",
            "token 301 is outside",
        ),
        strict=True,
    ):
        assert text.startswith("request 1: ") and what in text
