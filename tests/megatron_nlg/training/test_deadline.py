"""A job leaves early enough for its last step and checkpoint."""

from __future__ import annotations

from itertools import cycle

from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.training.deadline import LEAVING_SECONDS, Deadline


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=40), st.floats(0.0, 10), st.floats(5, 100))
def test_steps_and_checkpoints_no_longer_than_before_end_in_time(steps: list[float], save: float, limit: float) -> None:
    now = 0.0
    deadline = Deadline(limit, lambda: now)
    longest = max(steps)
    deadline.step_is_done()
    now += longest
    deadline.save_begins()
    now += save
    deadline.save_is_done()
    training = cycle(steps)
    while not deadline.step_is_done():
        now += next(training)
    if now > longest + save:  # not too late from the start
        assert now + save + LEAVING_SECONDS <= limit


def test_none_is_never() -> None:
    assert not Deadline().step_is_done()
