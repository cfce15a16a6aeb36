"""Banks of probes: a layer's is what it would be alone, and several tasks share what they should."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from megatron_nlg.analysis.probing.fit import Examples, Training, fit
from megatron_nlg.analysis.probing.probes import KINDS, Bank
from tests.megatron_nlg.analysis.probing.planted import planted


def parts(layers: slice = slice(None), spans: int = 1) -> tuple[Examples, Examples]:
    some = planted(200, spans=spans)
    whole = Examples(torch.from_numpy(some.values[layers]), torch.from_numpy(some.labels))
    return whole.part(0, 160), whole.part(160, 200)


@pytest.mark.parametrize("kind", ["linear", "mlp", "multi"])
def test_a_probe_knows_nothing_of_those_beside_it(kind: Any) -> None:
    how = Training(kind, width=8, rounds=12, patience=2)
    together, alone = (parts(layers) for layers in (slice(None), slice(0, 1)))
    many, one = (fit([train], [held], [3], how) for train, held in (together, alone))
    for a, b in zip(many.parameters(), one.parameters(), strict=True):
        torch.testing.assert_close(a[:1], b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_before_training_all_classes_are_as_likely(kind: Any) -> None:
    bank = Bank(kind, 3, 12, [(2, 5)], 8, 0)
    found = bank(torch.randn(3, 4, 2, 12))
    assert found.shape == (1 if kind == "mix" else 3, 4, 5)
    torch.testing.assert_close(found.exp(), torch.full_like(found, 0.2))


def test_a_mixture_finds_the_layer() -> None:
    train, held = parts()
    bank = fit([train], [held], [3], Training("mix"))
    assert bank.mixture is not None
    assert bank.mixture.softmax(1)[0].argmax() == 1


def test_tasks_share_a_projection() -> None:
    one, two = parts(), parts(spans=2)
    bank = fit([one[0], two[0]], [one[1], two[1]], [3, 3], Training("multi", width=8))
    assert bank.inner is not None and bank.inner.weight.shape == (3, 12, 8)
    assert [head.weight.shape for head in bank.heads] == [(3, 8, 3), (3, 16, 3)]
    for task, (_, held) in enumerate((one, two)):
        assert (bank(held.x, task)[1].argmax(1) == held.y).double().mean() > 0.9
