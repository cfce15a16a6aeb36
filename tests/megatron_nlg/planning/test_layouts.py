"""Layouts against the rules of `config/validate.py`."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from megatron_nlg.config.base import build
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.config.validate import consistency, rank_problems
from megatron_nlg.planning.layouts import layouts, reasons
from tests.megatron_nlg.config.strategies import trees
from tests.tiny import tiny

RANKS = 16


def test_all_legal_layouts_and_no_others() -> None:
    """Against every combination of the settings, held against the rules one by one."""
    illegal: Counter[str] = Counter()
    config = tiny("batch.global=32", "model.num_layers=6")
    found = [
        (p.tensor, p.pipeline, p.interleave, p.sequence, p.zero_stage, p.recompute, layout.batch.micro)
        for layout in layouts(config, RANKS, "this", illegal)
        for p in [layout.parallel]
    ]
    wanted = set()
    sizes, modes = (1, 2, 4, 8, 16), ("none", "full")
    for values in product(sizes, sizes, (1, 2, 3, 6), (False, True), (1, 2, 3), modes, (1, 2, 4, 8, 16, 32)):
        names = ("tensor", "pipeline", "interleave", "sequence", "zero_stage", "recompute")
        pairs = [f"parallel.{name}={str(value).lower()}" for name, value in zip(names, values, strict=False)]
        one = tiny("batch.global=32", "model.num_layers=6", *pairs, f"batch.micro={values[-1]}")
        if not [*consistency(one), *rank_problems(one, RANKS)]:
            wanted.add(values)
    assert len(found) == len(set(found))
    assert set(found) == wanted
    assert sum(count for _, count, _ in reasons(illegal)) == sum(illegal.values()) > 0
    assert any(key == "model.num_layers" for key, _, _ in reasons(illegal))


@settings(max_examples=25)
@given(trees(), st.sampled_from([1, 6, 8, 24]))
def test_whatever_the_config_only_legal_layouts_are_offered(tree: dict[str, Any], ranks: int) -> None:
    config = build(RunConfig, tree, "generated")
    own = [*consistency(config), *rank_problems(config, ranks)]
    found = list(layouts(config, ranks, "this", Counter()))
    for layout in found:
        assert not [*consistency(layout), *rank_problems(layout, ranks)]
        assert layout.model == config.model
    if not own:
        assert any(same.parallel == config.parallel and same.batch == config.batch for same in found)
