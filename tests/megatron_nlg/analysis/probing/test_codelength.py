"""Codes by hand, and what they must say of planted and of random labels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from megatron_nlg.analysis.probing import codelength
from megatron_nlg.analysis.probing.codelength import cuts, online_codes
from megatron_nlg.analysis.probing.fit import Examples, Training
from megatron_nlg.analysis.probing.probes import Bank
from tests.megatron_nlg.analysis.probing.planted import planted


def test_portions_end_where_the_paper_says() -> None:
    assert cuts(1000) == [1, 2, 4, 8, 16, 32, 62, 125, 250, 500, 1000]
    assert cuts(10) == [1, 2, 5, 10]
    assert cuts(3)[-1] == 3


def test_a_code_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight labels in portions of 2, 2 and 4: the first at 1 bit each, the others at a fixed 3/4 and 1/4."""
    seen: list[int] = []

    def fixed(train: Any, held_out: Any, classes: Any, how: Training) -> Bank:
        seen.append(len(train[0].y))
        bank = Bank("linear", 1, 1, [(1, 2)], 1, 0)
        with torch.no_grad():
            bank.heads[0].bias.copy_(torch.tensor([[[math.log(3.0), 0.0]]]))
        return bank

    monkeypatch.setattr(codelength, "fit", fixed)
    labels = torch.tensor([0, 1, 0, 0, 1, 0, 1, 0])
    sent = Examples(torch.zeros(1, 8, 1, 1), labels)
    ((code,),) = online_codes([sent], [sent], [2], Training(), fractions=(25, 50, 100))
    often, seldom = math.log2(4 / 3), 2.0
    assert seen == [2, 4]
    assert code.bits == pytest.approx(2 + 2 * often + 2 * often + 2 * seldom, abs=1e-6)
    assert [begin for begin, _ in code.portions] == [0, 2, 4]
    assert [bits for _, bits in code.portions] == pytest.approx([2, 2 * often, 2 * often + 2 * seldom])
    assert code.uniform_bits == 8 and code.compression == pytest.approx(8 / code.bits)


@pytest.mark.parametrize("kind", ["linear", "mlp", "mix"])
def test_planted_labels_compress_and_random_ones_do_not(kind: Any) -> None:
    some = planted()
    x, y = torch.from_numpy(some.values), torch.from_numpy(some.labels)
    random = torch.from_numpy(np.random.default_rng(1).integers(3, size=600))
    how = Training(kind, width=16, rounds=12)
    for labels, found in ((y, True), (random, False)):
        whole = Examples(x, labels)
        (codes,) = online_codes([whole.part(0, 500)], [whole.part(500, 600)], [3], how)
        best = codes[0 if kind == "mix" else 1].compression
        assert best > 2.5 if found else best == pytest.approx(1, abs=0.04), (kind, labels is y)
        if kind != "mix":
            assert all(code.compression == pytest.approx(1, abs=0.05) for code in (codes[0], codes[2]))


def test_seeds_repeat_every_digit() -> None:
    some = planted(200)
    whole = Examples(torch.from_numpy(some.values), torch.from_numpy(some.labels))
    parts = [whole.part(0, 160)], [whole.part(160, 200)], [3]
    first, again, other = (online_codes(*parts, Training("mlp", width=8, rounds=4, seed=seed)) for seed in (0, 0, 1))
    assert first == again and first != other
