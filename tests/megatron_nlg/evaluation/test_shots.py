"""Numbers of examples."""

from __future__ import annotations

import pytest

from megatron_nlg.config.errors import InputError
from megatron_nlg.evaluation.harness import own_tasks
from megatron_nlg.evaluation.shots import FEW, count_of, parse_shots


def test_shots() -> None:
    assert parse_shots("0,1,few") == [0, 1, None]
    assert [count_of("race_h", shots) for shots in (0, 4, None)] == [0, 4, 10]
    assert count_of("arc_easy", None) == 10
    assert sorted(FEW) == own_tasks()


@pytest.mark.parametrize(("text", "said"), [("0,many", "'many' is neither"), ("", "'' is neither"), ("1,1", "twice")])
def test_what_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_shots(text)
