"""What a screen chooses is the entry with the highest logit, whatever the weights; where it can't tell, it says so."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from megatron_nlg.model.screen import LEFT, ROWS, Screen, multiply

KINDS: dict[str, Callable[[Tensor, Tensor], object]] = {
    "as they are": lambda weight, hidden: None,
    "equal": lambda weight, hidden: weight[1::2].copy_(weight[: len(weight) // 2]),
    "nearly equal": lambda weight, hidden: weight[1:].copy_(weight[0] * (1 + 1e-7 * weight[1:])),
    "zeros": lambda weight, hidden: (weight[::3].zero_(), hidden[0].zero_()),
    "huge": lambda weight, hidden: (weight[::5].mul_(1e15), hidden[-1].mul_(1e12)),
    "tiny": lambda weight, hidden: (weight.mul_(1e-30), hidden[0].mul_(1e-30)),
    "subnormal": lambda weight, hidden: weight[::2].mul_(1e-40),
    "below half a step": lambda weight, hidden: weight.copy_(1 + weight.sign() * 2**-10),
    "one huge column": lambda weight, hidden: (weight[:, 0].fill_(1e4), hidden[:, 0].fill_(1e4)),
    "a far mean": lambda weight, hidden: weight.add_(30),
}


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    kind=st.sampled_from(sorted(KINDS)),
    rows=st.sampled_from([1, 2, 5, ROWS]),
    shape=st.tuples(st.sampled_from([2, 63, 300]), st.sampled_from([1, 8, 33, 128])),
)
def test_the_choice_is_the_highest(seed: int, kind: str, rows: int, shape: tuple[int, int]) -> None:
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(*shape, generator=draw) * 0.1
    hidden = torch.randn(rows, shape[1], generator=draw)
    KINDS[kind](weight, hidden)
    found = Screen(weight).best(hidden)
    assert found is not None
    exact = hidden.double() @ weight.double().t()
    highest = exact.amax(1)
    chosen = exact[range(rows), found]
    # Of sums in fp64, which differ in their last digits with the shape of the product.
    slack = 1e-13 * hidden.double().norm(dim=1) * weight.double().norm(dim=1).max()
    assert bool((chosen >= highest - slack).all())
    # fp32 has its rounding, and what it takes for zero.
    clear = exact.topk(2).values.diff()[:, 0].abs() > 1e9 * slack + 1e-30
    assert torch.equal(found[clear], F.linear(hidden, weight).argmax(1)[clear])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), copies=st.integers(2, 60))
def test_of_equals_the_first_is_chosen(seed: int, copies: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    weight, hidden = torch.randn(200, 64, generator=draw), torch.randn(3, 64, generator=draw)
    for x in hidden:
        weight[torch.randperm(200, generator=draw)[:copies]] = x  # the later row's copies may take the earlier's places
    equals = (weight == hidden[-1]).all(1).nonzero()[:, 0]
    assert Screen(weight).best(hidden[-1:]) == equals[0]  # x·x is the highest there is


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 3e38])
def test_numbers_that_overflow_are_left_to_the_whole_product(bad: float) -> None:
    weight, hidden = torch.randn(100, 16), torch.randn(3, 16)
    hidden[1, 3] = bad
    assert Screen(weight).best(hidden) is None
    weight[50, 7] = bad
    assert Screen(weight).best(torch.randn(1, 16)) is None


def test_what_it_does_not_help_with_is_left_to_the_whole_product() -> None:
    weight = torch.randn(1, 32).repeat(LEFT + 1, 1)
    assert Screen(weight).best(torch.randn(1, 32)) is None, "all are equal"
    assert Screen(weight[:LEFT]).best(torch.randn(1, 32)) == 0
    screen = Screen(torch.randn(50, 32))
    assert screen.best(torch.randn(ROWS + 1, 32)) is None
    screen.pays = False, True
    assert screen.best(torch.randn(1, 32)) is None
    assert screen.best(torch.randn(2, 32)) is not None
    assert Screen.over(torch.randn(50, 32).bfloat16()) is None


def coarse(x: Tensor, weight: Tensor) -> Tensor:
    """Sums in bfloat16."""
    out = torch.zeros(len(x), len(weight), dtype=torch.bfloat16)
    for a, b in zip(x.split(8, dim=1), weight.split(8, dim=1), strict=True):
        out += a @ b.t()
    return out


def test_a_product_that_is_too_rough_is_refused() -> None:
    weight = torch.randn(2000, 256)
    assert Screen(weight).holds()
    assert not Screen(weight, coarse).holds()
    assert not Screen(weight, lambda x, w: multiply(x, w) * 1.02).holds()


def test_a_screen_is_taken_where_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.randn(300, 64)
    monkeypatch.setattr(Screen, "is_faster", lambda self, rows: rows == 1)
    screen = Screen.over(weight)
    assert screen is not None and screen.pays == (True, False)
    monkeypatch.setattr(Screen, "is_faster", lambda self, rows: False)
    assert Screen.over(weight) is None
