from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.training.checkpoint.state import boxes


@given(st.lists(st.integers(1, 7), min_size=1, max_size=3), st.data())
def test_boxes_are_the_range_in_its_order(shape: list[int], data: st.DataObject) -> None:
    total = math.prod(shape)
    start = data.draw(st.integers(0, total - 1))
    numel = data.draw(st.integers(1, total - start))
    whole = torch.arange(total).view(shape)
    found = list(boxes(start, numel, shape))
    assert len(found) <= 2 * len(shape) - 1
    parts = [whole[tuple(slice(o, o + s) for o, s in zip(*box, strict=True))].flatten() for box in found]
    assert torch.equal(torch.cat(parts), torch.arange(start, start + numel))
