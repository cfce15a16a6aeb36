from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from megatron_nlg.config.base import known_keys, read_yaml
from megatron_nlg.config.cluster import load_cluster
from megatron_nlg.config.errors import ConfigError
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.config.validate import data_parallel_size, load_config, replica_ranks
from tests.tiny import tiny

CONFIGS = Path(__file__).parents[3] / "configs"


def documented(section: type[BaseModel]) -> Iterator[tuple[str, str | None]]:
    for name, field in section.model_fields.items():
        yield f"{section.__name__}.{name}", field.description
    for nested in known_keys(section).values():
        if nested:
            yield from documented(nested)


def test_every_setting_is_documented_where_it_is_defined() -> None:
    assert [name for name, text in documented(RunConfig) if not text] == []


def test_derived_values() -> None:
    model = tiny("model.vocab_size=250", "model.vocab_multiple=64", "model.init_std=null").model
    assert model.padded_vocab_size == 256
    assert model.ffn_size == 256
    assert model.weight_std == pytest.approx((1 / 192) ** 0.5)
    assert tiny("model.vocab_size=256", "model.ffn_hidden_size=96").model.ffn_size == 96
    assert tiny("model.vocab_size=257").model.padded_vocab_size == 320


SIZES = ("num_layers=2", "hidden_size=64", "num_attention_heads=4", "sequence_length=1024", "vocab_size=50257")
RUNS = sorted(path for path in (CONFIGS / "runs").glob("*.yaml") if not path.stem.startswith("prep_"))


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_every_run_config_is_legal_on_one_replica(path: Path) -> None:
    fine_tuned = "num_layers" not in read_yaml(path)["model"]  # its model is that of the run it starts from
    config = load_config(path, [f"model.{size}" for size in SIZES] if fine_tuned else [])
    assert data_parallel_size(config, replica_ranks(config)) == 1


@pytest.mark.parametrize("path", sorted((CONFIGS / "models").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_model_config_completes_a_run_config(path: Path, tmp_path: Path) -> None:
    assert list(read_yaml(path)) == ["model"]
    run = tmp_path / "run.yaml"
    run.write_text(
        f"include: ['{path}']\nbatch: {{global: 8}}\noptimizer: {{lr: 1e-4}}\nschedule: {{train_tokens: 1e6}}\n"
    )
    load_config(run)


@pytest.mark.parametrize("path", sorted((CONFIGS / "clusters").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_cluster_config_loads(path: Path) -> None:
    assert load_cluster(path).name == path.stem


def test_mt_nlg_530b_is_the_papers() -> None:
    config = load_config(CONFIGS / "runs" / "mt_nlg_530b.yaml")
    model, parallel = config.model, config.parallel
    assert (model.num_layers, model.hidden_size, model.num_attention_heads) == (105, 20480, 128)
    assert (model.ffn_size, model.sequence_length) == (4 * 20480, 2048)
    assert (model.vocab_size, model.padded_vocab_size, model.norm_eps) == (50257, 51200, 1e-5)
    assert model.weight_std == pytest.approx(4.03e-3, rel=2e-3)
    assert (model.tie_embeddings, model.position_embedding) == (True, "learned")
    assert (parallel.tensor, parallel.pipeline, parallel.interleave) == (8, 35, 1)
    assert (parallel.zero_stage, parallel.recompute, parallel.sequence) == (1, "full", False)
    assert (config.batch.micro, config.batch.global_, config.precision) == (1, 1920, "bf16")
    assert config.batch.ramp is not None
    ramp = config.batch.ramp
    assert (ramp.start, ramp.increment, ramp.tokens, ramp.rounding) == (32, 32, 12_000_000_000, "up")
    optimizer = config.optimizer
    assert (optimizer.lr, optimizer.beta1, optimizer.beta2, optimizer.eps) == (5e-5, 0.9, 0.95, 1e-8)
    assert (optimizer.weight_decay, optimizer.clip_grad_norm) == (0.1, 1.0)
    schedule = config.schedule
    assert (schedule.train_tokens, schedule.decay_tokens) == (270_000_000_000, 340_000_000_000)
    assert (schedule.warmup_tokens, schedule.decay, schedule.min_lr_ratio) == (1_000_000_000, "cosine", 0.1)
    assert config.data.split == (0.98, 0.02)
    assert [data_parallel_size(config, nodes * 8) for nodes in (280, 350, 420)] == [8, 10, 12]


def test_fp8_is_refused_with_its_reason() -> None:
    with pytest.raises(ConfigError, match=r"fp8 needs Transformer Engine.*choose bf16"):
        tiny("precision=fp8")
