"""Evaluation tasks on the model in training."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from megatron_nlg.cli import main
from megatron_nlg.config.dump import to_yaml
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.data.tokenizer import run_tokenizer
from megatron_nlg.evaluation.adaptor import ParallelLM
from megatron_nlg.evaluation.harness import Source, build_task, measure
from megatron_nlg.evaluation.live import Tasks
from megatron_nlg.evaluation.ranks import Ranks
from megatron_nlg.generation.generator import Generator
from megatron_nlg.generation.scoring import Scorer
from megatron_nlg.training.trainer import Trainer
from tests.megatron_nlg.data.corpus import write_corpus
from tests.megatron_nlg.evaluation.sets import lines
from tests.megatron_nlg.training.test_trainer import curve
from tests.tiny import tiny
from tests.world import World


def live(config: RunConfig, folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    trainer = Trainer(config, folder, measure=Tasks(folder) if config.evaluation.tasks else None)
    status = trainer.train()
    trainer.close()
    return status


def afterwards(config: RunConfig, folder: Path, data: Path) -> dict[str, float]:
    generator = Generator(config, folder, run_tokenizer(config, folder))
    return measure(
        ParallelLM(Ranks(generator, Scorer(generator))), build_task("lambada", 0, Source(data, shuffled=True)), 5
    )


@pytest.fixture
def settings(tmp_path: Path) -> list[str]:
    """Of a run of six steps, on a corpus whose characters spell the task's."""
    draw = random.Random(0)
    texts = [" ".join("".join(chr(draw.randint(97, 122)) for _ in range(3)) for _ in range(5)) for _ in range(8)]
    lines(tmp_path / "data" / "lambada" / "lambada_test.jsonl", [{"text": text} for text in texts])
    return [
        f"data.blend={write_corpus(tmp_path / 'corpus', first_character=32)}",
        "data.split=[0.8, 0.2]",
        "evaluation.batches=0",
        f"schedule.train_tokens={16 * 32 * 6}",
    ]


def tasks(tmp_path: Path, *more: str) -> list[str]:
    asked = ["tasks=[lambada]", "task_interval=3", "task_limit=5", f"task_data={tmp_path / 'data'}", *more]
    return [f"evaluation.{each}" for each in asked]


@pytest.mark.parametrize("layout", [[], ["parallel.tensor=2"], ["parallel.pipeline=2"]])
def test_tasks_are_measured_and_change_nothing(
    world: World, settings: list[str], tmp_path: Path, layout: list[str]
) -> None:
    config = tiny(*settings, *layout, *tasks(tmp_path))
    assert world.run(2, live, config, tmp_path / "with") == ["done"] * 2
    assert world.run(2, live, tiny(*settings, *layout), tmp_path / "without") == ["done"] * 2
    assert curve(tmp_path / "with") == curve(tmp_path / "without")
    events = [json.loads(line) for line in (tmp_path / "with" / "events.jsonl").read_text().splitlines()]
    found = [event for event in events if event["event"] == "task"]
    assert [(event["step"], event["task"], event["documents"]) for event in found] == [
        (3, "lambada", 5),
        (6, "lambada", 5),
    ]
    assert found[0]["perplexity"] != found[1]["perplexity"]
    [want] = world.run(1, afterwards, tiny(*settings), tmp_path / "with", tmp_path / "data")
    assert want == pytest.approx({name: found[1][name] for name in want}, rel=1e-3)


def test_a_missing_set_is_said_before_training(
    settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(tiny(*settings)))
    (tmp_path / "data" / "lambada" / "lambada_test.jsonl").write_text('{"text": "no end"')
    wrong = ["train", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "run"), *tasks(tmp_path)]
    assert main(wrong) == 2
    assert "lambada_test.jsonl, line 1: broken JSON" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
