"""What counts as a changed blend, and what may still change."""

from __future__ import annotations

from typing import Any

import pytest

from megatron_nlg.data.clock import TokenClock
from megatron_nlg.data.identity import blend_changes, without_blend
from tests.tiny import tiny

SAVED: dict[str, Any] = {
    "seed": 1,
    "data.split": [0.9, 0.1],
    "source docs": [0.7, 100, 4000],
    "source code": [0.3, 50, 1500],
    "stage 4096: source docs": [1.0, 100, 4000],
}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"source docs": [0.5, 100, 4000]}, "source docs has weight 0.5 and had 0.7"),
        ({"source code": [0.3, 51, 1600]}, "source code has 51 documents with 1,600 tokens and had 50 with 1,500"),
        ({"source code": None}, "source code is gone"),
        ({"source web": [0.2, 9, 90]}, "source web is new, with weight 0.2"),
        ({"data.split": [0.8, 0.2]}, "data.split is [0.8, 0.2] and was [0.9, 0.1]"),
        ({"stage 2048: source code": [1.0, 50, 1500]}, "stage 2048: source code is new, with weight 1"),
    ],
)
def test_what_has_been_read_may_not_change(changed: dict[str, Any], said: str) -> None:
    wanted = {key: value for key, value in {**SAVED, **changed}.items() if value is not None}
    assert blend_changes(SAVED, wanted, 100, TokenClock.of(tiny())) == [said]


def test_a_stage_may_change_until_it_has_begun() -> None:
    clock, wanted = TokenClock.of(tiny()), {**SAVED, "stage 4096: source docs": [2.0, 100, 4000]}
    assert blend_changes(SAVED, wanted, 128, clock) == []  # 4096 tokens have been read: the stage begins now
    assert blend_changes(SAVED, wanted, 129, clock) == ["stage 4096: source docs has weight 2 and had 1"]


def test_other_settings_are_not_the_blends() -> None:
    assert without_blend(SAVED) == {"seed": 1}
