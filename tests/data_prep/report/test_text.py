"""Numbers as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.report.text import bytes_text, count_text, duration_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0, "0"), (999, "999"), (9999, "9,999"), (10_000, "10 k"), (614_400, "614 k"), (999_700, "1000 k")),
        *((1_234_567, "1.23 M"), (270e9, "270 G"), (1.5e12, "1.5 T")),
    ],
)
def test_counts(value: float, text: str) -> None:
    assert count_text(value) == text


@pytest.mark.parametrize(("value", "text"), [(0, "0 B"), (999, "999 B"), (123_456, "123 kB"), (5_780_000, "5.78 MB")])
def test_bytes(value: int, text: str) -> None:
    assert bytes_text(value) == text


@pytest.mark.parametrize(("value", "text"), [(4.13, "4.1 s"), (200, "3 min 20 s"), (3720, "1 h 02 min")])
def test_durations(value: float, text: str) -> None:
    assert duration_text(value) == text


@given(st.integers(0, 10**15))
def test_counts_never_show_an_exponent(value: int) -> None:
    assert "e" not in count_text(value) + bytes_text(value)
