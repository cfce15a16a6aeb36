from __future__ import annotations

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from megatron_nlg.config.validate import consistency, rank_problems
from megatron_nlg.training.verification.layouts import legal_layouts, sample
from tests.tiny import tiny

CONFIG = tiny()
LEGAL = legal_layouts(CONFIG, [1, 2, 4])


def test_every_layout_is_legal_and_has_a_name_of_its_own() -> None:
    assert len({candidate.name for candidate in LEGAL}) == len(LEGAL) > 100
    for candidate in LEGAL:
        config = CONFIG.model_copy(update={"parallel": candidate.parallel})
        assert not list(consistency(config)) and not list(rank_problems(config, candidate.ranks))


def test_what_the_model_does_not_allow_is_left_out() -> None:
    assert {c.parallel.tensor for c in legal_layouts(tiny("model.num_query_groups=1"), [4])} == {1}
    assert {c.parallel.pipeline for c in legal_layouts(tiny("model.num_layers=3"), [4])} == {1}
    assert (
        legal_layouts(tiny("batch={micro: 16, global: 16}", "model.num_layers=1", "model.num_query_groups=1"), [3])
        == []
    )


def test_names_say_what_differs() -> None:
    names = {candidate.name for candidate in LEGAL}
    assert {"TP1 PP1 CP1 DP1 ZeRO-1", "TP2+SP PP2×2 CP1 DP1 ZeRO-1 recompute full"} <= names
    assert "TP1 PP1 CP2 DP2 ZeRO-3 offload recompute selective" in names


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 60))
def test_a_sample_is_the_start_of_a_longer_one(count: int) -> None:
    taken = sample(LEGAL, count)
    assert len({candidate.name for candidate in taken}) == count
    assert sample(LEGAL, count + 1)[:count] == taken


def test_a_few_layouts_meet_every_pair_of_choices() -> None:
    def pairs(candidates: list) -> set:  # type: ignore[type-arg]
        return {pair for candidate in candidates for pair in combinations(candidate.choices, 2)}

    assert pairs(sample(LEGAL, 40)) == pairs(LEGAL)
    assert len(pairs(sample(LEGAL, 12))) > 0.75 * len(pairs(LEGAL))
