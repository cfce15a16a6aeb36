from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from megatron_nlg.config.base import build, read_yaml
from megatron_nlg.config.schema import Model, RunConfig
from megatron_nlg.planning.parameters import (
    layer_components,
    model_components,
    rank_parameters,
    stage_components,
    total_parameters,
)
from tests.megatron_nlg.config.strategies import trees
from tests.tiny import tiny

MODELS = Path(__file__).parents[3] / "configs" / "models"


def model(name: str) -> Model:
    return build(Model, read_yaml(MODELS / f"{name}.yaml")["model"], name)


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        # Published: GPT-3's sizes (Brown et al. 2020), MT-NLG's, and Narayanan et al.'s 1T, all rounded as printed.
        ("gpt3_125m", 0.125),
        ("gpt3_350m", 0.35),
        ("gpt3_760m", 0.76),
        ("gpt3_1.3b", 1.3),
        ("gpt3_2.7b", 2.7),
        ("gpt3_6.7b", 6.7),
        ("gpt3_13b", 13.0),
        ("gpt3_175b", 175.0),
        ("mt_nlg_530b", 529.6),
        ("gpt_1t", 1008.0),
    ],
)
def test_published_sizes(name: str, billions: float) -> None:
    assert total_parameters(model(name)) / 1e9 == pytest.approx(billions, rel=0.02)


def test_mt_nlg_530b_exactly() -> None:
    count = total_parameters(model("mt_nlg_530b"))
    layers, hidden, rows, positions = 105, 20480, 51200, 2048
    assert count == layers * (12 * hidden**2 + 13 * hidden) + (rows + positions) * hidden + 2 * hidden
    assert round(count / 1e9, 1) == 529.6
    closed_form = 12 * layers * hidden**2 * (1 + 13 / (12 * hidden) + (rows + positions) / (12 * layers * hidden))
    assert count - closed_form == pytest.approx(2 * hidden, abs=512)  # the final norm; the rest is rounding


@pytest.mark.parametrize(("name", "count"), [("llama2_7b", 6_738_415_616), ("llama3_8b", 8_030_261_248)])
def test_llama_exactly(name: str, count: int) -> None:
    assert total_parameters(model(name)) == count


def test_a_layer_by_hand() -> None:
    config = tiny("model.ffn_hidden_size=96")
    hidden, ffn = 64, 96
    parts = {name: part.total for name, part in layer_components(config.model).items()}
    assert parts == {
        "attention": hidden * 3 * hidden + 3 * hidden + hidden * hidden + hidden,
        "mlp": hidden * ffn + ffn + ffn * hidden + hidden,
        "norms": 2 * 2 * hidden,
    }
    default = tiny().model
    assert sum(part.total for part in layer_components(default).values()) == 12 * hidden**2 + 13 * hidden


@given(trees())
def test_stages_and_ranks_hold_the_model(tree: dict[str, Any]) -> None:
    config = build(RunConfig, tree, "generated")
    stages, tensor = config.parallel.pipeline, config.parallel.tensor
    total = total_parameters(config.model)
    assert total == sum(part.total for part in model_components(config.model).values())
    held = sum(part.total for p in range(stages) for part in stage_components(config, p).values())
    copy = config.model.padded_vocab_size * config.model.hidden_size
    assert held - total == (copy if config.model.tie_embeddings and stages > 1 else 0)
    for pipe in range(stages):
        parts = stage_components(config, pipe).values()
        cut, whole = sum(part.cut for part in parts), sum(part.whole for part in parts)
        assert cut % tensor == 0
        assert rank_parameters(config, pipe) == cut // tensor + whole


def test_ends_of_the_pipeline_hold_the_embeddings() -> None:
    tied = tiny("parallel.pipeline=2")
    assert "word_embedding" in stage_components(tied, 0)
    assert "output_layer" not in stage_components(tied, 0)
    assert stage_components(tied, 1)["output_layer"] == stage_components(tied, 0)["word_embedding"]
    assert "output_layer" not in stage_components(tiny(), 0)
    untied = tiny("model.tie_embeddings=false")
    assert total_parameters(untied.model) - total_parameters(tiny().model) == 256 * 64
    assert "output_layer" in stage_components(untied, 0)
