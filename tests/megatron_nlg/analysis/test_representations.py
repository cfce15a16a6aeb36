"""What is read of texts and where; arrays that are whole or not there."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.analysis.representations import Found, Input, Represented, batches, collect, pool
from megatron_nlg.config.errors import InputError, MegatronNlgError


class Letters(Represented):
    """A model of one layer more than the embeddings: the letters' codes, and their negatives."""

    layers, hidden_size, max_length, summary = 2, 3, 12, "first"
    before, after = [1], [2]

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text if letter != "~"]

    def stream(self, inputs: Sequence[Input], batch_tokens: int | None = None) -> Iterator[Found]:
        for batch in batches(inputs, batch_tokens or 16):
            hidden = batch.tokens.t()[:, :, None] * torch.ones(3)
            yield Found(batch.spans, torch.stack([pool(hidden, batch), -pool(hidden, batch)]))


def test_spans_of_poolings_and_of_marks() -> None:
    found = Letters().prepare("ab cd e", ("mean", "last", "first"), [(3, 5), (0, 2), (0, 7)])
    assert found == Input(
        [1, *map(ord, "ab cd e"), 2], [(0, 9), (8, 9), (0, 1), (3, 6), (1, 3), (1, 8)]  # a word with its space
    )  # fmt: skip


def test_texts_that_are_too_long() -> None:
    text = "0123456789abc"
    end, start = (Letters().prepare(text, marks=[(4, 6)], max_length=8, cut=cut) for cut in ("end", "start"))
    assert end == Input([1, *map(ord, "012345"), 2], [(5, 7)])
    assert start is None
    start = Letters().prepare(text, marks=[(8, 10)], max_length=8, cut="start")
    assert start == Input([1, *map(ord, "789abc"), 2], [(2, 4)])
    assert Letters().prepare(text, marks=[(5, 7)], max_length=8) is None
    assert Letters().prepare(text, ("mean",)) == Input([1, *map(ord, text[:10]), 2], [(0, 12)])  # the model's own limit


def test_nothing_to_read_is_said() -> None:
    for text, marks, said in (("~", [], "'~': the text has no token"), ("a~", [(1, 2)], "'~': has no token")):
        with pytest.raises(InputError, match=said):
            Letters().prepare(text, ("mean",), marks)


@given(
    st.lists(
        st.lists(st.integers(0, 99), min_size=1, max_size=9).flatmap(
            lambda tokens: st.tuples(
                st.just(tokens),
                st.lists(
                    st.tuples(st.integers(0, len(tokens) - 1), st.integers(1, 9)).map(
                        lambda span: (span[0], min(len(tokens), span[0] + span[1]))
                    ),
                    max_size=3,
                ),
            )
        ),
        max_size=8,
    ),
    st.integers(1, 30),
)
def test_means_of_any_spans_in_any_batches(given_: list[tuple[list[int], list[tuple[int, int]]]], size: int) -> None:
    inputs = [Input(tokens, spans) for tokens, spans in given_]
    values = collect(Letters(), inputs, batch_tokens=size)
    assert values is not None
    want = [np.mean(each.tokens[a:b]) for each in inputs for a, b in each.spans]
    assert values.shape == (2, len(want), 3)
    np.testing.assert_allclose(values[0], np.array(want).reshape(-1, 1) * np.ones(3), rtol=1e-6)
    np.testing.assert_array_equal(values[1], -values[0])


def test_a_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = [Input([5, 6, 7], [(0, 3), (1, 2)]), Input([4], [(0, 1)])]
    told: list[int] = []
    mapped = collect(Letters(), inputs, tmp_path / "all.npy", progress=told.append)
    assert mapped is not None
    assert mapped[0, :, 0].tolist() == [6, 6, 4]
    assert sum(told) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["all.npy"]

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(MegatronNlgError, match=r"more\.npy: No space left on device"):
        collect(Letters(), inputs, tmp_path / "more.npy")
    assert [path.name for path in tmp_path.iterdir()] == ["all.npy"]
