"""Documents inside packed samples, against Megatron-core's own dense construction."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.data.documents import Boundaries
from megatron_nlg.model.attention import document_mask
from tests.tiny import tiny

EOD = 9


@given(st.lists(st.lists(st.integers(7, EOD), min_size=6, max_size=6), min_size=1, max_size=3))
def test_marks_equal_those_of_megatron_core(rows: list[list[int]]) -> None:
    from megatron.core.datasets.gpt_dataset import _get_ltor_masks_and_position_ids

    tokens = torch.tensor(rows)
    plain = {"tokens": tokens, "labels": tokens, "loss_mask": torch.ones(tokens.shape)}
    marked = Boundaries(EOD, attention=True, positions=True, mask_loss=True).mark(plain)
    masks = document_mask(marked["documents"], torch.arange(6))
    for number, row in enumerate(tokens):
        mask, loss, positions = _get_ltor_masks_and_position_ids(row, EOD, True, True, True, True)
        assert torch.equal(masks[number], mask)
        assert torch.equal(marked["loss_mask"][number], loss)
        assert torch.equal(marked["positions"][number], positions)


def test_nothing_is_added_that_was_not_asked_for() -> None:
    batch = {"tokens": torch.tensor([[1, EOD, 2]]), "loss_mask": torch.ones(1, 3)}
    boundaries = Boundaries.of(tiny("data.mask_eod_loss=true").data, EOD)
    assert boundaries.mark(batch).keys() == batch.keys()
    assert boundaries.mark(batch)["loss_mask"].tolist() == [[1, 0, 1]]
    assert batch["loss_mask"].tolist() == [[1, 1, 1]]
    assert Boundaries.of(tiny("data.reset_positions=true").data, EOD).mark(batch)["positions"].tolist() == [[0, 1, 0]]
