from __future__ import annotations

from pathlib import Path

import pytest

from megatron_nlg.config.dump import to_yaml
from megatron_nlg.config.errors import ConfigError, InputError
from megatron_nlg.config.validate import consistency, load_config
from tests.tiny import tiny

BASE = (
    "task=classification",
    "data.classification={train: t.tsv, labels: [a, b], max_length: 16}",
)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task=pretraining"], "data.classification: is for task classification"),
        (["data.classification=null"], "data.classification: is what task classification learns from"),
        (["data.classification.max_length=64"], "max_length: 64 is above model.sequence_length 32"),
        (["data.classification.labels=[a, a]"], "labels: ['a', 'a']; give two or more different classes"),
        (["data.classification.labels=[a]"], "give two or more different classes"),
        (["data.classification.text='{a.b}'"], "{a.b} is not the name of a column"),
        (["data.classification.text='{a'"], "expected '}'"),
        (["data.classification.text=plain"], "'plain' names no column"),
        (["data.classification.text='{label}'"], "holds the label (label)"),
        (
            ["parallel.sequence=true", "parallel.tensor=2", "data.classification.max_length=15"],
            "15 is not divisible by parallel.tensor 2",
        ),
        (["parallel.context=2"], "parallel.context: means nothing to task classification"),
        (["data.blend=x.yaml"], "data.blend: means nothing to task classification"),
        (["evaluation.tasks=[lambada_openai]"], "evaluation.tasks: means nothing to task classification"),
        (["data.reset_attention=true"], "data.reset_attention: means nothing to task classification"),
        (
            ["schedule.sequence_warmup={start: 8, tokens: 99}"],
            "schedule.sequence_warmup: means nothing to task classification",
        ),
    ],
)
def test_contradictions(overrides: list[str], message: str) -> None:
    assert any(message in str(problem) for problem in consistency(tiny(*BASE, *overrides)))


def test_a_good_one_and_what_it_says_of_itself() -> None:
    config = tiny(*BASE, "schedule.train_tokens=0", "data.classification.labels=[0, 1, 2]")
    assert list(consistency(config)) == []
    assert (config.classes, config.sample_length) == (3, 16)
    assert config.data.classification and config.data.classification.labels == ("0", "1", "2")
    assert (tiny().classes, tiny().sample_length) == (0, 32)
    assert [str(p) for p in consistency(tiny("schedule.train_tokens=0"))] == [
        "schedule.train_tokens: is required; set it in the file or as an override"
    ]


def test_the_model_is_that_of_the_loaded_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints" / "step_00000001").mkdir(parents=True)
    (run / "config.yaml").write_text(to_yaml(tiny()))
    path = tmp_path / "fine.yaml"
    path.write_text(
        "task: classification\nmodel: {dropout: 0.1}\nbatch: {global: 8}\noptimizer: {lr: 1e-4}\nschedule: {}\n"
        "data: {classification: {train: t.tsv, labels: [a, b], max_length: 16}}\n"
    )
    for there in (run, run / "checkpoints", run / "checkpoints" / "step_00000001"):
        model = load_config(path, [f"checkpoint.load_from={there}"]).model
        assert model == tiny("model.dropout=0.1").model
    with pytest.raises(ConfigError, match=r"model\.num_layers: is required"):
        load_config(path)
    (run / "config.yaml").write_text("data: {}\n")
    with pytest.raises(InputError, match=r"config\.yaml: has no model"):
        load_config(path, [f"checkpoint.load_from={run}"])
