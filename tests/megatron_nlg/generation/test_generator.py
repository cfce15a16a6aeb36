"""Continuations from one checkpoint: the same under every layout, and what ends and cuts them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from data_prep.tokenizer import CharacterTokenizer
from megatron_nlg.config.errors import InputError
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.config.validate import load_config
from megatron_nlg.data.tokenizer import run_tokenizer
from megatron_nlg.generation.generator import Generator
from megatron_nlg.generation.sampling import Sampling
from megatron_nlg.generation.sequence import Result
from megatron_nlg.model.forward import logits
from megatron_nlg.model.lean import head_weight
from megatron_nlg.model.screen import Screen
from megatron_nlg.training.checkpoint.huggingface import import_folder
from tests.megatron_nlg.data.corpus import Source, write_corpus
from tests.megatron_nlg.training.checkpoint.test_huggingface import SHAPES, random_model
from tests.megatron_nlg.training.test_trainer import go
from tests.tiny import tiny
from tests.world import World

GREEDY = Sampling(temperature=0, max_tokens=40)  # past the sequence's 32
DRAWN = Sampling(temperature=1.0, top_p=0.9, max_tokens=40, seed=5)
PROMPT = [3, 1, 4, 1, 5]
LONG = {"docs": Source(40, 500, 1.0)}
"""Documents so long that the end of one is not the most probable token."""


@pytest.fixture(scope="module")
def trained(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, Path]:
    """A run of a few steps, with checkpoints 6 and 8."""
    folder = tmp_path_factory.mktemp("trained")
    config = tiny(
        f"data.blend={write_corpus(folder / 'corpus', LONG)}",
        "data.split=[0.8, 0.2]",
        "evaluation.batches=0",
        "checkpoint.interval=3",
        f"schedule.train_tokens={16 * 32 * 8}",
        "optimizer.lr=1e-2",
    )
    assert world.run(2, go, config, folder / "run") == ["done"] * 2
    return config, folder / "run"


def layout(config: RunConfig, *overrides: str) -> RunConfig:
    return tiny(f"data.blend={config.data.blend}", *overrides)


def continuations(config: RunConfig, run: Path, prompts: list[list[int]], sampling: list[Sampling]) -> list[list[int]]:
    generator = Generator(config, run, run_tokenizer(config, run))
    return [list(generator.tokens(prompt, how)) for prompt, how in zip(prompts, sampling, strict=True)]


@pytest.mark.parametrize(
    ("ranks", "overrides"),
    [
        (2, "parallel.tensor=2"),
        (2, "parallel.pipeline=2"),
        (4, "parallel.tensor=2 parallel.pipeline=2"),
        (2, "parallel.pipeline=2 parallel.interleave=2"),
    ],
)
def test_every_layout_continues_alike(
    world: World, trained: tuple[RunConfig, Path], ranks: int, overrides: str
) -> None:
    config, run = trained
    both = [PROMPT, PROMPT], [GREEDY, DRAWN]
    [want] = world.run(1, continuations, layout(config), run, *both)
    assert [len(tokens) for tokens in want] == [40, 40] and want[0] != want[1]
    assert world.run(ranks, continuations, layout(config, *overrides.split()), run, *both) == [want] * ranks


def test_a_seed_repeats_itself_and_another_does_not(world: World, trained: tuple[RunConfig, Path]) -> None:
    config, run = trained
    how = [DRAWN, DRAWN, Sampling(seed=6, max_tokens=40)]
    [[first, again, other]] = world.run(1, continuations, layout(config), run, [PROMPT] * 3, how)
    assert first == again != other


def by_argmax(config: RunConfig, run: Path, prompt: list[int], count: int) -> tuple[list[Any], list[int], float]:
    """Greedy continuations by the generator, with a screen and without, alone and in company, and by hand; and the
    largest probability of a padded row."""
    generator = Generator(config, run, run_tokenizer(config, run))
    text, padded = list(prompt), 0.0
    for _ in range(count):
        out = logits(generator.chunks, generator.context, torch.tensor([text]))[0, -1]
        padded = max(padded, float(torch.softmax(out, 0)[config.model.vocab_size :].max()))
        text.append(int(out.argmax()))
    how, got = Sampling(temperature=0, max_tokens=count), []
    for screen in (Screen(head_weight(generator.chunks[-1]).detach()[: generator.entries]), None):
        generator._model, generator._screen = None, lambda screen=screen: screen
        got += [
            result.tokens for prompts in (1, 3) for result in generator.generate([prompt] * prompts, [how] * prompts)
        ]
    changing = Generator.over(config, generator.context, generator.chunks, generator.tokenizer)
    assert changing._screen() is None, "a model in training changes its weights"
    assert generator.chunks[0].decoder.layers[0].mlp.linear_fc1.weight.t().is_contiguous(), "by columns"
    return got, text[len(prompt) :], padded


def test_greedy_is_the_argmax_and_padding_is_impossible(world: World, trained: tuple[RunConfig, Path]) -> None:
    config, run = trained
    [(got, want, padded)] = world.run(1, by_argmax, layout(config), run, PROMPT, 10)
    assert got == [want] * 8 and len(want) == 10
    assert config.model.padded_vocab_size > config.model.vocab_size and padded == 0


def ends(config: RunConfig, run: Path) -> dict[str, list[int]]:
    """Continuations at the edges."""
    generator = Generator(config, run, run_tokenizer(config, run))
    eod = generator.tokenizer.eod
    long = [i % 97 for i in range(100)]
    results = {
        "whole": list(generator.tokens(PROMPT, DRAWN)),
        "long": list(generator.tokens(long, GREEDY)),
        "window": list(generator.tokens(long[-config.model.sequence_length :], GREEDY)),
        "one": list(generator.tokens(PROMPT, Sampling(max_tokens=1))),
        "after eod": generator.tokenizer.encode(generator.text("", GREEDY)),
        "eod": list(generator.tokens([eod], GREEDY)),
    }
    generator.tokenizer.eod = results["whole"][20]
    results["stopped"] = list(generator.tokens(PROMPT, DRAWN))
    return results


def test_ends(world: World, trained: tuple[RunConfig, Path]) -> None:
    config, run = trained
    [got] = world.run(1, ends, layout(config), run)
    assert len(got["one"]) == 1
    assert got["long"] == got["window"]  # what does not fit is cut at its start
    assert got["after eod"] == got["eod"]  # an empty prompt starts a document
    stop = got["whole"].index(got["whole"][20])
    assert got["stopped"] == got["whole"][:stop]  # the end-of-document token ends it and is not shown


def together(config: RunConfig, run: Path) -> dict[str, Any]:
    """Texts of several lengths and settings, one at a time, and in batches that they leave and join."""
    generator = Generator(config, run, run_tokenizer(config, run))
    prompts = [[(7 * i + j) % 97 for j in range(1 + 5 * i % 31)] for i in range(7)] + [[i % 97 for i in range(50)]]
    how = [
        Sampling(temperature=i % 2, max_tokens=3 + 9 * i % 37, seed=i, top_k=20, repetition_penalty=1.2, logprobs=i % 3)
        for i in range(8)
    ]
    alone = [next(iter(generator.generate([p], [s], slide=True))) for p, s in zip(prompts, how, strict=True)]
    batched = {
        size: sorted(generator.generate(prompts, how, size, slide=True), key=lambda r: r.index) for size in (2, 3, 16)
    }
    pieces: dict[int, str] = {}
    for piece in generator.stream(prompts, how, 3, slide=True):
        pieces[piece.index] = pieces.get(piece.index, "") + piece.text
    return {"alone": alone, "batched": batched, "pieces": pieces}


def test_a_text_does_not_depend_on_its_batch(world: World, trained: tuple[RunConfig, Path]) -> None:
    config, run = trained
    [got] = world.run(1, together, layout(config), run)
    for size, results in got["batched"].items():
        for index, (one, many) in enumerate(zip(got["alone"], results, strict=True)):
            assert (many.index, many.tokens, many.text) == (index, one.tokens, one.text), size
            assert many.finish_reason == one.finish_reason
            assert len(many.logprobs) == len(many.tokens) and all(len(p.top) == index % 3 for p in many.logprobs)
            for here, there in zip(many.logprobs, one.logprobs, strict=True):
                assert here.logprob == pytest.approx(there.logprob, abs=1e-4)
    assert got["pieces"] == {index: result.text for index, result in enumerate(got["alone"])}


def edges(config: RunConfig, run: Path) -> dict[str, Any]:
    """Stop sequences, a full sequence, log-probabilities, and what is refused."""
    generator = Generator(config, run, run_tokenizer(config, run))

    def one(prompt: list[int], slide: bool = True, **settings: Any) -> Result:
        [result] = generator.generate([prompt], [Sampling(**{"temperature": 0, **settings})], slide=slide)
        return result

    def refusal(prompt: list[int], **settings: Any) -> str:
        with pytest.raises(InputError) as error:
            one(prompt, slide=False, **settings)
        return str(error.value)

    whole = one(PROMPT, temperature=1.0, max_tokens=20, seed=5, logprobs=2)
    out = logits(generator.chunks, generator.context, torch.tensor([PROMPT + whole.tokens]))[0, :, :250]
    return {
        "whole": whole,
        "logprobs": torch.log_softmax(out.double(), -1)[len(PROMPT) - 1 : -1],
        "stopped": one(PROMPT, temperature=1.0, max_tokens=20, seed=5, stop=("never", whole.text[7:10])),
        "full": one(PROMPT, slide=False, max_tokens=100),
        "refused": [
            refusal([i % 97 for i in range(32)]),
            refusal([]),
            refusal([250]),
            refusal(PROMPT, top_p=0),
            refusal(PROMPT, logprobs=251),
        ],
    }


def test_edges(world: World, trained: tuple[RunConfig, Path]) -> None:
    config, run = trained
    [got] = world.run(1, edges, layout(config), run)
    whole, stopped = got["whole"], got["stopped"]
    assert (whole.finish_reason, len(whole.tokens)) == ("length", 20)
    for token, entry, want in zip(whole.tokens, whole.logprobs, got["logprobs"], strict=True):
        assert entry.logprob == pytest.approx(float(want[token]), abs=1e-5)
        assert sorted(entry.top.values()) == pytest.approx(sorted(want.topk(2).values.tolist()), abs=1e-5)
    cut = whole.text.index(whole.text[7:10])
    assert (stopped.text, stopped.finish_reason) == (whole.text[:cut], "stop")
    assert stopped.tokens == whole.tokens[: cut + 3] and stopped.logprobs is None
    assert (got["full"].finish_reason, len(got["full"].tokens)) == ("length", 32 - len(PROMPT))
    for said, what in zip(
        got["refused"],
        ("has 32 tokens, and the model", "has no tokens", "token 250 is outside", "--top-p 0: must", "--logprobs 251"),
        strict=True,
    ):
        assert what in said


def message(config: RunConfig, run: Path) -> str:
    try:
        Generator(config, run, run_tokenizer(config, run))
    except InputError as error:
        return str(error)
    return "generated"


def damaged(config: RunConfig, run: Path) -> tuple[int, list[str]]:
    generator = Generator(config, run, run_tokenizer(config, run))
    return generator.progress.step, generator.damaged


def test_a_damaged_checkpoint_falls_back_and_says_so(
    world: World, trained: tuple[RunConfig, Path], tmp_path: Path
) -> None:
    config, run = trained
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    newest, older = copy / "checkpoints" / "step_00000008", copy / "checkpoints" / "step_00000006"
    next(newest.glob("*.distcp")).write_bytes(b"")
    for step, problems in world.run(2, damaged, layout(config, "parallel.tensor=2"), copy):
        assert step == 6 and len(problems) == 1 and "step_00000008" in problems[0]
    next(older.glob("*.distcp")).unlink()
    for said in world.run(2, message, layout(config, "parallel.tensor=2"), copy):
        assert said.startswith("no checkpoint is whole: ")


@pytest.mark.parametrize(("key", "value"), [("parallel.sequence", "true"), ("parallel.context", "2")])
def test_a_cut_sequence_is_refused(trained: tuple[RunConfig, Path], key: str, value: str) -> None:
    config = layout(trained[0], "parallel.tensor=2", f"{key}={value}")
    with pytest.raises(InputError, match=f"{key}: .*can't be cut over ranks"):
        Generator(config, trained[1], run_tokenizer(config, trained[1]))


@pytest.mark.parametrize("shape", SHAPES)
def test_greedy_is_that_of_transformers(shape: str, world: World, tmp_path: Path) -> None:
    """Imported weights; prompts of several lengths in one batch."""
    theirs = random_model(shape, tmp_path / "source")
    import_folder(tmp_path / "source", tmp_path / "run")
    room, entries = theirs.config.n_positions, theirs.config.vocab_size
    prompts = [[(3 * i * i + 11 * j) % entries for j in range(1 + 4 * i)] for i in range(3)]
    want = [
        theirs.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt)),
            do_sample=False,
            max_new_tokens=room - len(prompt),
            min_new_tokens=room - len(prompt),
            pad_token_id=0,
        )[0, len(prompt) :].tolist()
        for prompt in prompts
    ]
    for ranks, overrides in ((1, []), (4, ["parallel.tensor=2", "parallel.pipeline=2"])):
        for found in world.run(ranks, imported, tmp_path / "run", overrides, prompts):
            assert found == want


def imported(run: Path, overrides: list[str], prompts: list[list[int]]) -> list[list[int]]:
    """Greedy tokens up to the model's sequence."""
    config = load_config(run / "config.yaml", overrides)
    tokenizer = CharacterTokenizer("".join(map(chr, range(1000, 999 + config.model.vocab_size))))
    tokenizer.identity = None  # type: ignore[assignment] # the import had none
    generator = Generator(config, run, tokenizer)
    tokenizer.eod = -1  # nothing ends a text early
    results = generator.generate(prompts, [Sampling(temperature=0, max_tokens=100)] * len(prompts))
    return [result.tokens for result in sorted(results, key=lambda r: r.index)]


def test_no_checkpoint(world: World, trained: tuple[RunConfig, Path], tmp_path: Path) -> None:
    [said] = world.run(1, message, layout(trained[0]), tmp_path)
    assert said == f"{tmp_path}/checkpoints: holds no checkpoint; train first, or name the run's folder"


def test_a_checkpoint_of_another_model_or_tokenizer(
    world: World, trained: tuple[RunConfig, Path], tmp_path: Path
) -> None:
    config, run = trained
    [said] = world.run(1, message, layout(config, "model.num_layers=2"), run)
    assert "model.num_layers is 2 and was 4" in said
    other = write_corpus(tmp_path / "other", first_character=2000)
    [said] = world.run(1, message, tiny(f"data.blend={other}"), run)
    assert "tokenizer is 'sha256:" in said
