"""Packed rows hold every text whole, once, and its tokens see their own past and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.generation.packing import Scored, pack

TEXTS = st.lists(st.tuples(st.lists(st.integers(0, 1), min_size=1, max_size=40), st.integers(1, 40)), max_size=30)


@given(TEXTS, st.sampled_from([1, 30, 60]), st.sampled_from([1, 50, 500]), st.sampled_from([None, 0, 9]), st.booleans())
def test_every_text_is_found_in_its_row(
    drawn: list[tuple[list[int], int]], tree: int, batch_tokens: int, padding: int | None, shots: bool
) -> None:
    beginning = [2] * 30 if shots else []
    texts = [
        Scored(index, beginning + tokens, [7] * min(count, len(tokens))) for index, (tokens, count) in enumerate(drawn)
    ]
    batches = pack(texts, batch_tokens, padding, tree)
    seen = []
    for batch in batches:
        assert len(batch.rows) == 1 or len(batch.rows) * batch.columns <= batch_tokens
        assert padding is None or sum(batch.columns - len(row.tokens) for row in batch.rows) <= padding
        for row in batch.rows:
            assert len(row.entries) == 1 or len(row.tokens) <= max(tree, 2 * max(len(t.tokens) for t, _ in row.entries))
            mask = row.mask(batch.columns)
            for text, columns in row.entries:
                past = [c for c in range(len(row.tokens)) if mask[columns[-1], c]]
                assert list(batch.prefix) + [row.tokens[c] for c in past] == text.tokens
                assert [row.positions[c] for c in past] == list(range(len(batch.prefix), len(text.tokens)))
                assert columns == past[len(past) - len(text.targets) :]
                for column in columns:
                    assert [c for c in range(batch.columns) if mask[column, c]] == [c for c in past if c <= column]
                seen.append(text.index)
    assert sorted(seen) == list(range(len(texts)))


def test_what_is_shared_is_computed_once() -> None:
    shots = list(range(100))
    texts = [
        Scored(4 * question + choice, shots + [1000 + question] * 20 + [choice] * 3, [1] * 3)
        for question in range(30)
        for choice in range(4)
    ]
    batches = pack(texts, batch_tokens=320, tree=150)
    assert {len(batch.prefix) for batch in batches} == {100}
    rows = [row for batch in batches for row in batch.rows]
    assert len(rows) == 30 and all(len(row.tokens) == 20 + 4 * 3 for row in rows)
    assert all(len(batch.rows) == 10 for batch in batches)
    one = Scored(0, shots, [5])
    [batch] = pack([one, Scored(1, shots, [6])], 320)
    assert len(batch.rows) == 1 and batch.rows[0].is_chain and batch.rows[0].tokens == shots
