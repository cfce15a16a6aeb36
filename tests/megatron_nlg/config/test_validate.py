from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.config.base import build
from megatron_nlg.config.dump import to_yaml
from megatron_nlg.config.errors import ConfigError
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.config.validate import (
    batch_problems,
    batch_quantum,
    consistency,
    data_parallel_size,
    load_config,
    ramp_levels,
)
from tests.megatron_nlg.config.strategies import trees
from tests.tiny import tiny

RAMP = "batch.ramp={start: 4, increment: 4, tokens: 1000}"


@pytest.mark.parametrize(
    ("overrides", "key", "message"),
    [
        (["model.num_attention_heads=5"], "model.num_attention_heads", "5 heads do not divide hidden_size 64; nearest"),
        (["model.num_attention_heads=1", "parallel.tensor=2"], "model.num_attention_heads", "1 is not divisible by"),
        (["model.ffn_hidden_size=33", "parallel.tensor=2"], "model.ffn_hidden_size", "33 is not divisible by"),
        (
            ["model.vocab_multiple=1", "model.vocab_size=251", "parallel.tensor=2"],
            "model.vocab_multiple",
            "padded vocabulary of 251 is not divisible by parallel.tensor 2",
        ),
        (["parallel.pipeline=3"], "model.num_layers", "4 layers can't be cut into pipeline 3 × interleave 1"),
        (["parallel.pipeline=2", "parallel.interleave=4"], "model.num_layers", "nearest pipeline × interleave: 4"),
        (["parallel.interleave=2"], "parallel.interleave", "2 chunks without a pipeline; set it to 1"),
        (["parallel.sequence=true"], "parallel.sequence", "needs parallel.tensor > 1"),
        (
            ["parallel.sequence=true", "parallel.tensor=2", "model.sequence_length=31"],
            "model.sequence_length",
            "31 is not divisible by parallel.tensor 2",
        ),
        (["parallel.zero_stage=2", "parallel.pipeline=2"], "parallel.zero_stage", "stage 2 cuts gradients"),
        (["parallel.zero_stage=3", "parallel.pipeline=2"], "parallel.zero_stage", "stage 3 cuts gradients"),
        (
            ["model.num_query_groups=3"],
            "model.num_query_groups",
            "3 groups do not divide num_attention_heads 4; nearest",
        ),
        (["model.num_query_groups=1", "parallel.tensor=2"], "model.num_query_groups", "1 is not divisible by"),
        (
            ["model.position_embedding=rotary", "model.rotary_fraction=0.1"],
            "model.rotary_fraction",
            "0.1 of heads of 16 leaves nothing to rotate",
        ),
        (
            ["parallel.context=2", "model.sequence_length=30"],
            "model.sequence_length",
            "30 is not divisible by 2 × parallel.context 2",
        ),
        (
            ["parallel.context=4", "parallel.tensor=4", "parallel.sequence=true", "model.sequence_length=40"],
            "model.sequence_length",
            "40 / parallel.context 4 is not divisible by parallel.tensor 4",
        ),
        (["parallel.offload_optimizer=true", "parallel.pipeline=2"], "parallel.offload_optimizer", "or pipeline to 1"),
        (["loss_scale.window=10"], "loss_scale", "is for fp16, and precision is fp32"),
        (["schedule.warmup_tokens=1e9"], "schedule.warmup_tokens", r"the warm-up (1000000000) is longer"),
        (["log.profile_steps=[5, 4]"], "log.profile_steps", "[5, 4] ends before it starts"),
        (["checkpoint.load=all"], "checkpoint.load", "set checkpoint.load_from too"),
        (
            ["schedule.sequence_warmup={start: 32, tokens: 9}"],
            "schedule.sequence_warmup.start",
            "32 is not below model.sequence_length 32",
        ),
        (
            ["schedule.sequence_warmup={start: 8, tokens: 9, multiple: 3}", "parallel={tensor: 2, sequence: true}"],
            "schedule.sequence_warmup.multiple",
            "3 is not divisible by 2, as parallel.sequence or parallel.context needs; nearest: 2 or 4",
        ),
        (
            ["data.stages=[{from_tokens: 5, weights: {a: 1}}, {from_tokens: 5, blend: b}]"],
            "data.stages.1.from_tokens",
            "5 does not come after 5",
        ),
        (
            ["data.stages=[{from_tokens: 1e9, blend: b}]"],
            "data.stages.0.from_tokens",
            "1000000000 is never reached: schedule.train_tokens is 10240",
        ),
        (
            ["schedule.sequence_warmup={start: 6, tokens: 9, multiple: 8}", "parallel.context=2"],
            "schedule.sequence_warmup.start",
            "6 is not divisible by 4, as parallel.sequence or parallel.context needs; nearest: 4 or 8",
        ),
        (["evaluation.tasks=[lambada]"], "evaluation.tasks", "is set without evaluation.task_interval"),
        (["evaluation.task_interval=3"], "evaluation.task_interval", "is set without evaluation.tasks"),
        (
            ["evaluation={tasks: [lambada], task_interval: 3}", "parallel.zero_stage=3"],
            "parallel.zero_stage",
            "3: evaluation.tasks can't be measured on such a model while it trains",
        ),
        (
            ["data.reset_positions=true", "model.position_embedding=rotary"],
            "data.reset_positions",
            "rotary positions are relative",
        ),
        (["data.stages=[{from_tokens: 5}]"], "data.stages.0", "says nothing of its mixture; give blend, weights or"),
        (["data.stages=[{from_tokens: 5, weights: {}}]"], "data.stages.0.weights", "names no source"),
        (["log.noise_scale=1", "parallel.zero_stage=2"], "log.noise_scale", "needs each replica's whole gradient"),
        (["log.layer_statistics=1", "parallel.context=2"], "log.layer_statistics", "parallel.context 1"),
        (["log.timeline_steps=[5, 4]"], "log.timeline_steps", "[5, 4] ends before it starts"),
        (["data.split=[0.9, 0.2]"], "data.split", "[0.9, 0.2] does not sum to 1"),
        (["batch.ramp={start: 17, increment: 1, tokens: 1}"], "batch.ramp.start", "17 is above batch.global 16"),
        (
            ["batch.ramp={start: 4, increment: 5, tokens: 1}"],
            "batch.ramp.increment",
            "steps of 5 from 4 do not reach batch.global 16; nearest increments: 4 or 6",
        ),
        (["heartbeat.interval_seconds=0"], "watchdog.timeout_seconds", "480, but heartbeats are off"),
        (
            ["watchdog.timeout_seconds=8"],
            "watchdog.timeout_seconds",
            "8 is less than two heartbeats (heartbeat.interval_seconds 5); set heartbeat.interval_seconds to 2",
        ),
        (["guard.spike_window=7", "checkpoint.interval=5"], "guard.spike_window", "7 losses have no usable deviation"),
        (["guard.spike_window=64"], "guard.spike_window", "nothing to roll back to; set checkpoint.interval"),
        (["integrity.interval=5", "parallel.zero_stage=3"], "integrity.interval", "stage 3 cuts all weights"),
    ],
)
def test_each_contradiction_is_one_problem(overrides: list[str], key: str, message: str) -> None:
    problems = list(consistency(tiny(*overrides)))
    assert [p.key for p in problems] == [key]
    assert message in str(problems[0])


@pytest.mark.parametrize(
    ("overrides", "ranks", "key", "message"),
    [
        (["parallel.tensor=2", "parallel.pipeline=2"], 6, "parallel", "needs a multiple of 4 ranks, and there are 6"),
        (["parallel.tensor=2", "parallel.pipeline=2"], 3, "parallel", "start 4 ranks"),
        ([], 0, "parallel", "there are 0"),
        (["log.noise_scale=1"], 1, "log.noise_scale", "compares replicas, and there is only one"),
        ([], 3, "batch.global", "16 is not a multiple of batch.micro 2 × data-parallel size 3 = 6; nearest: 12 or 18"),
        (["batch.micro=32"], 1, "batch.global", "nearest: 32"),
        (
            ["parallel.pipeline=2", "parallel.interleave=2", "batch.micro=16"],
            2,
            "batch.global",
            "× parallel.pipeline 2 (interleaving) = 32",
        ),
        ([RAMP], 4, "batch.ramp", "levels 4, 12 are not multiples of batch.micro 2 × data-parallel size 4 = 8"),
    ],
)
def test_what_does_not_fit_the_ranks(overrides: list[str], ranks: int, key: str, message: str) -> None:
    config = tiny(*overrides)
    assert list(consistency(config)) == []
    with pytest.raises(ConfigError) as caught:
        data_parallel_size(config, ranks)
    assert [p.key for p in caught.value.problems] == [key]
    assert message in str(caught.value)


def test_ramp_levels_that_do_not_fit_may_be_rounded_up() -> None:
    config = tiny(RAMP, "batch.ramp.rounding=up")
    assert ramp_levels(config) == [4, 8, 12, 16]
    assert data_parallel_size(config, 4) == 4


@given(trees(), st.integers(1, 64))
def test_a_batch_is_a_problem_exactly_when_it_can_not_be_split(tree: dict[str, Any], data_parallel: int) -> None:
    config = build(RunConfig, tree, "generated")
    pipeline = config.parallel.pipeline if config.parallel.interleave > 1 else 1
    quantum = config.batch.micro * data_parallel * pipeline
    assert batch_quantum(config, data_parallel) == quantum
    levels = ramp_levels(config)
    assert levels[-1] == config.batch.global_
    must_fit = levels if config.batch.ramp and config.batch.ramp.rounding == "error" else levels[-1:]
    problems = list(batch_problems(config, data_parallel))
    assert bool(problems) == any(level % quantum for level in must_fit)


class TestLoadConfig:
    def write(self, folder: Path, *overrides: str) -> Path:
        path = folder / "run.yaml"
        path.write_text(to_yaml(tiny(*overrides)))
        return path

    def problems(self, path: Path, *overrides: str, ranks: int | None = None) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load_config(path, overrides, ranks)
        assert str(caught.value).startswith(f"{path}: ")
        return [p.key for p in caught.value.problems]

    def test_a_good_file_loads(self, tmp_path: Path) -> None:
        assert load_config(self.write(tmp_path), ["seed=5"], 8) == tiny("seed=5")

    def test_wrong_values_contradictions_and_ranks_come_together(self, tmp_path: Path) -> None:
        path = self.write(tmp_path)
        found = self.problems(
            path, "log.intervall=3", "seed=-1", "model.num_attention_heads=5", "parallel.zero_stage=4", ranks=3
        )
        assert found == ["parallel.zero_stage", "log.intervall", "seed", "model.num_attention_heads", "batch.global"]

    def test_consequences_of_a_misspelt_key_are_not_problems(self, tmp_path: Path) -> None:
        path = self.write(tmp_path)
        # With tensor 2, as was meant, sequence parallelism is legal.
        assert self.problems(path, "parallel.sequence=true", "parallel.tensr=2") == ["parallel.tensr"]
        assert self.problems(path, "parallel.sequence=true", "parallel.tensor=two") == ["parallel.tensor"]
        # The tree without a required value can't be looked at further.
        assert self.problems(path, "model.num_layers=four", "data.split=[0.9, 0.2]") == ["model.num_layers"]

    def test_a_wrong_item_of_a_list_takes_the_list_away(self, tmp_path: Path) -> None:
        path = self.write(tmp_path)
        assert self.problems(path, "data.split=[0.9, 2]", "parallel.interleave=2") == [
            "data.split.1",
            "parallel.interleave",
        ]
