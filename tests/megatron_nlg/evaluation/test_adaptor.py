"""The adaptor against lm-evaluation-harness's own model of transformers, on the same weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from data_prep.tokenizer import BytePairTokenizer
from megatron_nlg.config.errors import InputError
from megatron_nlg.config.validate import load_config
from megatron_nlg.data.tokenizer import run_tokenizer
from megatron_nlg.evaluation.adaptor import ParallelLM
from megatron_nlg.evaluation.harness import Source, build_task, measure
from megatron_nlg.evaluation.journal import Journal
from megatron_nlg.evaluation.ranks import Ranks
from megatron_nlg.generation.generator import Generator
from megatron_nlg.generation.scoring import Scorer
from megatron_nlg.training.checkpoint.huggingface import import_folder
from tests.megatron_nlg.evaluation.sets import write_run, write_sets
from tests.world import World

EQUAL = 1e-3
"""Of metrics and log-likelihoods: the limit that the project has set itself."""
Jobs = list[tuple[str, int, int | None]]
LOGLIKELIHOODS = [
    ("", "told of it"),
    ("Ada saw ", "two grey cats"),
    ("It was", " the last bus"),
    ("saw it. " * 60, "x"),
]
TEXTS = ["", "Ada saw the red boat.", "Ben told Cleo of it. " * 30]
CONTINUED = [
    ("Ada saw", {"until": ["\n\n", "e"], "max_gen_toks": 12, "do_sample": False}),
    ("two grey cats " * 40, {"until": "\n", "max_gen_toks": 6}),
]


def asked(kind: str, every: list[Any]) -> list[Instance]:
    return [
        Instance(kind, {}, each if isinstance(each, tuple) else (each,), 0, ("t", i, 1)) for i, each in enumerate(every)
    ]  # type: ignore[arg-type]


def answers(lm: Any, data: Path, jobs: Jobs) -> dict[str, Any]:
    """Metrics and log-likelihoods of tasks, and of requests at the edges."""
    found: dict[str, Any] = {}
    for name, shots, limit in jobs:
        task = build_task(name, shots, Source(data))
        found[f"{name} {shots}"] = measure(lm, task, limit)
        found[f"{name} {shots} lls"] = [answer for instance in task.instances for answer in instance.resps]
    found["edges"] = lm.loglikelihood(asked("loglikelihood", LOGLIKELIHOODS))
    found["rolling"] = lm.loglikelihood_rolling(asked("loglikelihood_rolling", TEXTS))
    found["until"] = lm.generate_until(asked("generate_until", CONTINUED))
    return found


def ours(run: Path, overrides: list[str], data: Path, jobs: Jobs) -> dict[str, Any] | None:
    config = load_config(run / "config.yaml", overrides)
    generator = Generator(config, run, run_tokenizer(config, run))
    ranks = Ranks(generator, Scorer(generator))
    if not generator.context.is_main:
        ranks.follow()
        return None
    found = answers(ParallelLM(ranks), data, jobs)
    ranks.close()
    return found


def compare(got: dict[str, Any], want: dict[str, Any]) -> None:
    assert got.keys() == want.keys()
    for name, values in want.items():
        if name == "until":
            assert got[name] == values
        elif name == "rolling":
            assert got[name] == pytest.approx(values, abs=EQUAL)
        elif isinstance(values, dict):
            assert got[name] == pytest.approx(values, abs=EQUAL, rel=EQUAL), name
        else:
            totals = [total for total, _ in values]
            assert [total for total, _ in got[name]] == pytest.approx(totals, abs=EQUAL), name
            assert [greedy for _, greedy in got[name]] == [greedy for _, greedy in values], name


SMALL: Jobs = [
    ("lambada", 0, None),
    ("lambada_cloze", 2, None),
    ("race_h", 1, None),
    ("boolq", 0, None),
    ("piqa", 3, None),
]
SMALL += [("hellaswag", 0, None), ("winogrande", 2, None), ("anli_r2", 1, None), ("hans", 1, None), ("wic", 1, 4)]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("adaptor")
    model, tokenizer, run = write_run(folder)
    data = write_sets(folder / "data")
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4, device="cpu")
    return run, data, answers(lm, data, SMALL)


@pytest.mark.parametrize(
    ("ranks", "overrides"),
    [(1, ""), (2, "parallel.tensor=2"), (2, "parallel.pipeline=2"), (4, "parallel.pipeline=2 batch.global=2")],
)
def test_equal_to_the_harness_own(
    world: World, small: tuple[Path, Path, dict[str, Any]], ranks: int, overrides: str
) -> None:
    run, data, want = small
    got = world.run(ranks, ours, run, overrides.split(), data, SMALL)
    assert got[1:] == [None] * (ranks - 1)
    compare(got[0], want)


REAL: Jobs = [("lambada", 0, 8), ("hellaswag", 0, 6), ("piqa", 1, 6), ("winogrande", 2, 8), ("boolq", 0, 4)]


def test_equal_on_real_sets(world: World, real_data: Path, tmp_path: Path) -> None:
    """GPT-2's own vocabulary, random weights."""
    own = BytePairTokenizer.from_gpt2(
        real_data / "tokenizer" / "gpt2-vocab.json", real_data / "tokenizer" / "gpt2-merges.txt"
    )
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, initializer_range=0.2)).eval()
    model.save_pretrained(tmp_path / "source")
    (tmp_path / "source" / "tokenizer.json").write_text(own.content)
    import_folder(tmp_path / "source", tmp_path / "run")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "source" / "tokenizer.json"), eos_token="<|endoftext|>"
    )
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4, device="cpu")
    [got] = world.run(1, ours, tmp_path / "run", [], real_data / "eval", REAL)
    want = answers(lm, real_data / "eval", REAL)
    compare(got, want)
    assert len({total for total, _ in got["hellaswag 0 lls"]}) > 20


def twice(run: Path, data: Path, path: Path) -> tuple[list[int], list[Any], list[str]]:
    """Requests computed by an undisturbed job, by the same job again, and by one whose end was cut off."""
    config = load_config(run / "config.yaml")
    generator = Generator(config, run, run_tokenizer(config, run))
    counts, found = [], []

    class Counting(Scorer):
        def score(self, requests: Any, top: int = 0) -> Any:
            counts.append(len(requests))
            return super().score(requests, top)

    def go(checkpoint: str = "one") -> None:
        lm = ParallelLM(Ranks(generator, Counting(generator)), checkpoint, Journal(path))
        counts.append(0)
        task = build_task("piqa", 3, Source(data))
        found.append((measure(lm, task), lm.cut))

    go()
    whole = path.read_bytes()
    go()
    path.write_bytes(whole[: whole.index(b"\n", len(whole) // 2) + 30])  # killed while a row was being written
    go()
    assert sorted(path.read_bytes().split(b"\n")) == sorted(whole.split(b"\n"))
    go("another checkpoint")
    lm = ParallelLM(Ranks(generator, Counting(generator)))
    lm.loglikelihood(asked("loglikelihood", LOGLIKELIHOODS[:3] * 2))
    drawn = [("Ada", {"do_sample": True, "temperature": 2.0, "max_gen_toks": 9, "until": []})] * 3
    assert len(set(lm.generate_until(asked("generate_until", drawn)))) == 3
    refused = []
    lm = ParallelLM(Ranks(generator, Scorer(generator)))
    for wrong in (("a", "told " * 200), ("  ", "x")):
        with pytest.raises(InputError) as error:
            lm.loglikelihood(asked("loglikelihood", [wrong]))
        refused.append(str(error.value))
    with pytest.raises(InputError) as error:
        lm.generate_until(asked("generate_until", [("a", {"max_gen_toks": 500})]))
    refused.append(str(error.value))
    return counts, found, refused


def test_nothing_is_computed_twice(world: World, small: tuple[Path, Path, Any], tmp_path: Path) -> None:
    run, data, _ = small
    [(counts, found, refused)] = world.run(1, twice, run, data, tmp_path / "answers.jsonl")
    assert counts[:4] == [0, 10, 0, 0]  # the second job asks for nothing
    assert 0 < counts[4] < 10 and counts[5:] == [0, 10, 3]
    assert found[0] == found[1] == found[2] == found[3] and found[0][0]["documents"] == 5
    for said, what in zip(
        refused, ("longer than the model's sequence", "a context of spaces", "leaves no room"), strict=True
    ):
        assert what in said
    row = json.loads((tmp_path / "answers.jsonl").read_text().split("\n")[0])
    assert row["task"] == "piqa" and row["kind"] == "loglikelihood" and {"doc", "choice", "key", "answer"} <= row.keys()
