"""The next token: against plain loops, and against transformers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from megatron_nlg.config.errors import InputError
from megatron_nlg.generation.sampling import Sampling, candidates, next_token

LOGITS = st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=30)


def draws(logits: torch.Tensor, sampling: Sampling, count: int) -> list[int]:
    generator = torch.Generator().manual_seed(sampling.seed)
    return [next_token(logits, sampling, generator) for _ in range(count)]


@given(LOGITS, st.integers(0, 2**32))
def test_temperature_0_is_the_argmax(values: list[float], seed: int) -> None:
    token = next_token(torch.tensor(values), Sampling(temperature=0, top_p=0.5), torch.Generator().manual_seed(seed))
    assert values[token] == max(values)


def smallest_set(logits: torch.Tensor, top_p: float, temperature: float) -> set[int]:
    """The fewest tokens, most probable first, that together hold top_p: by a plain loop."""
    weights = [math.exp(float(x) / temperature) for x in logits.double() - logits.double().max()]
    order = sorted(range(len(weights)), key=lambda i: -weights[i])
    kept: set[int] = set()
    held = 0.0
    for token in order:
        if held >= top_p:
            break
        kept.add(token)
        held += weights[token] / sum(weights)
    return kept


@given(
    st.permutations([0.0, 1.0, 2.5, 3.0, 4.25, 5.0]),
    st.floats(0.01, 0.99),
    st.sampled_from([0.5, 1.0, 2.0]),
    st.integers(0, 2**32),
)
def test_top_p_keeps_exactly_the_smallest_set(values: list[float], top_p: float, temp: float, seed: int) -> None:
    logits = torch.tensor(values)
    kept = smallest_set(logits, top_p, temp)
    seen: set[int] = set()
    # Every distribution kept is made visible: drawing stops when all of it was seen or after many draws.
    sampling, generator = Sampling(temp, top_p, seed=seed), torch.Generator().manual_seed(seed)
    for _ in range(3000):
        seen.add(next_token(logits, sampling, generator))
        if len(seen) > len(kept) or (seen == kept and len(seen) == len(kept) and _ > 50):
            break
    assert seen <= kept
    # A kept token is rarer than 1 in 300 only where the tail is: then seeing it is left to chance.
    weights = torch.softmax(logits.double() / temp, 0)
    assert {token for token in kept if weights[token] / weights[list(kept)].sum() > 1 / 300} <= seen


def test_draws_follow_the_distribution() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    counts = torch.bincount(torch.tensor(draws(logits, Sampling(top_p=1.0), 4000)), minlength=4) / 4000
    assert torch.allclose(counts.double(), torch.softmax(logits.double(), 0), atol=0.03)  # 4 standard errors
    cut = torch.bincount(torch.tensor(draws(logits, Sampling(top_p=0.8), 4000)), minlength=4) / 4000
    want = torch.softmax(logits[:2].double(), 0)
    assert torch.allclose(cut.double(), torch.cat([want, torch.zeros(2, dtype=torch.float64)]), atol=0.03)


def test_a_token_that_just_reaches_the_share_is_the_last() -> None:
    logits = torch.tensor([0.5, 0.25, 0.25]).log()
    assert set(draws(logits, Sampling(top_p=0.5), 50)) == {0}
    assert set(draws(logits, Sampling(top_p=0.51), 50)) == {0, 1}  # of equals, the first


def test_temperature_sharpens_and_flattens() -> None:
    logits = torch.tensor([1.0, 0.0])
    share = {t: sum(draws(logits, Sampling(t, 1.0), 2000)) / 2000 for t in (0.25, 1.0, 4.0)}
    for temperature, got in share.items():
        assert got == pytest.approx(1 / (1 + math.exp(1 / temperature)), abs=0.04)


def test_a_seed_repeats_its_draws() -> None:
    logits = torch.linspace(0, 1, 100)
    assert draws(logits, Sampling(seed=3), 20) == draws(logits, Sampling(seed=3), 20)
    assert draws(logits, Sampling(seed=3), 20) != draws(logits, Sampling(seed=4), 20)


@given(LOGITS)
def test_logits_are_left_as_they_are(values: list[float]) -> None:
    logits = torch.tensor(values)
    before = logits.clone()
    token = next_token(logits, Sampling(), torch.Generator().manual_seed(0))
    assert torch.equal(logits, before) and 0 <= token < len(values)


@given(
    st.permutations([x / 7 for x in range(-30, 30)]),
    st.floats(0.2, 3),
    st.integers(0, 70),
    st.floats(0.01, 1),
    st.floats(0.5, 2),
    st.lists(st.integers(0, 59), max_size=20),
)
def test_candidates_are_those_of_transformers(
    values: list[float], temperature: float, top_k: int, top_p: float, penalty: float, text: list[int]
) -> None:
    scores = torch.tensor([values], dtype=torch.float64)
    if text:
        scores = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([text]), scores)
    penalized = scores
    scores = TemperatureLogitsWarper(temperature)(None, scores)
    if top_k:
        scores = TopKLogitsWarper(top_k)(None, scores)
    want = torch.softmax(TopPLogitsWarper(top_p)(None, scores)[0], 0)
    how = Sampling(temperature, top_p, top_k=top_k, repetition_penalty=penalty)
    tokens, shares = candidates(torch.tensor(values, dtype=torch.float64), how, text)
    got = torch.zeros(60, dtype=torch.float64).index_put((tokens,), shares / shares.sum())
    differ = {*tokens.tolist()} ^ {*want.nonzero()[:, 0].tolist()}
    if not differ:
        assert torch.allclose(got, want, atol=1e-9)
    else:  # where sums just reach top_p, rounding decides: one token more or less, or another one that is as probable
        assert len(differ) == 1 or len({float(penalized[0, token]) for token in differ}) == 1
        held = torch.softmax(scores[0], 0).sort(descending=True).values.cumsum(0)
        assert (held - top_p).abs().min() < 1e-9


@given(st.integers(0, 2**32), st.floats(0.05, 0.999), st.sampled_from([0.1, 1.0, 10.0]))
def test_sorting_a_part_is_as_good_as_sorting_all(seed: int, top_p: float, spread: float) -> None:
    """A vocabulary larger than what is sorted at first, with many equals."""
    logits = torch.randn(3000, generator=torch.Generator().manual_seed(seed)).mul(spread).mul(4).round().div(4)
    tokens, shares = candidates(logits, Sampling(1.0, top_p))
    want, order = torch.softmax(logits.double(), 0).sort(descending=True, stable=True)
    count = int((want.cumsum(0) - want < top_p).sum())
    assert tokens.tolist() == order[:count].tolist() and torch.equal(shares, want[:count])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"top_k": -1}, "--top-k -1: must be 0 (all) or more"),
        ({"repetition_penalty": 0.0}, "--repetition-penalty 0.0: must be above 0"),
        ({"stop": ("a", "")}, "--stop ('a', ''): must be text that is not empty"),
        ({"logprobs": -1}, "--logprobs -1: must be 0 or more"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        Sampling(**settings).check()
    assert str(error.value) == message
