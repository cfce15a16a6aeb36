"""What else would help."""

from __future__ import annotations

from pathlib import Path

from launch.placement.advice import advice, orders, splits
from launch.placement.report import place
from megatron_nlg.config.cluster import load_cluster
from megatron_nlg.planning.fabric import regular_fabric
from tests.tiny import tiny

ETHERNET = load_cluster(Path("configs/clusters/ethernet_4to1.yaml"))


def test_other_splits_are_legal_fit_the_memory_and_are_priced() -> None:
    config = tiny("parallel.tensor=4", "parallel.pipeline=2", "model.num_layers=4", "batch.global=32")
    placement = place(config, regular_fabric(ETHERNET, 4), 32, 8)
    found = splits(placement, ETHERNET)
    assert {(split.pipeline, split.data) for split in found} == {(1, 8), (2, 4), (4, 2)}
    assert [split.seconds for split in found] == sorted(split.seconds for split in found)
    own = next(split for split in found if split.pipeline == 2)
    assert own.seconds == placement.loads["chosen"].seconds
    assert own.bubble == 1 / 4
    small = ETHERNET.model_copy(update={"memory_gib": own.memory / 2**30 / 2})
    assert {split.pipeline for split in splits(placement, small)} < {1, 2, 4}, "its own stays, whatever it needs"


def test_advice_names_what_it_would_gain() -> None:
    config = tiny("parallel.tensor=4", "parallel.pipeline=1", "model.num_layers=4", "batch.global=32")
    placement = place(config, regular_fabric(ETHERNET, 4), 32, 8)
    text = "\n".join(advice(placement, ETHERNET))
    plain = orders(placement)
    assert set(plain) == {"tp-dp"}
    assert min(plain.values()) >= placement.loads["chosen"].seconds * (1 - 1e-9)
    assert " all-reduce of gradients would take " in text
    best = splits(placement, ETHERNET)[0]
    assert f"parallel.pipeline={best.pipeline} (data {best.data}) would take {best.seconds:.4f} s" in text
