from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from megatron_nlg.config.base import build, parse_yaml
from megatron_nlg.config.dump import to_yaml
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.config.validate import load_config
from tests.megatron_nlg.config.strategies import trees
from tests.tiny import tiny


@given(trees())
def test_what_is_written_reads_back_equal(tree: dict[str, Any]) -> None:
    config = build(RunConfig, tree, "generated")
    text = to_yaml(config)
    assert build(RunConfig, parse_yaml(text, "dumped"), "dumped") == config


def test_every_setting_is_written_and_a_file_of_it_loads(tmp_path: Path) -> None:
    config = tiny("batch.ramp={start: 8, increment: 8, tokens: 1e4}", "log.wandb_project='1e5'")
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config), encoding="utf-8")
    assert load_config(path) == config
    written = parse_yaml(path.read_text(encoding="utf-8"), "x")
    assert set(written) == set(RunConfig.model_fields)
    assert written["batch"]["global"] == 16
    assert "global_" not in written["batch"]
    assert written["data"]["split"] == [0.98, 0.02]


@pytest.mark.parametrize("value", ["1e5", "1_0", "yes", "~", "é – 漢", "a: b", "# x", " ", "\u2028", "\x85", "a\nb"])
def test_texts_stay_texts(value: str) -> None:
    config = tiny()
    config = config.model_copy(update={"log": config.log.model_copy(update={"wandb_project": value})})
    assert build(RunConfig, parse_yaml(to_yaml(config), "x"), "x") == config
