from __future__ import annotations

import math

import pytest

from megatron_nlg.training.verification.compare import LIMITS, compare, relative


def curve(losses: list[float], grad_norms: list[float], /, **weights: float) -> dict[str, object]:
    return {"losses": losses, "grad_norms": grad_norms, "weights": weights}


WANT = curve([2.0, 1.0], [3.0, 3.0])


def test_relative_is_the_largest_of_the_steps() -> None:
    assert relative([2.0, 1.1], [2.0, 1.0]) == pytest.approx(0.1)
    assert relative([], []) == 0
    assert relative([1.0], [1.0, 2.0]) == math.inf
    assert math.isnan(relative([1.0, math.nan, 1.0], [1.0, 1.0, 1.0]))


@pytest.mark.parametrize(
    ("got", "beyond"),
    [
        (curve([2.0, 1.0], [3.0, 3.0], matrices=1e-4), ()),
        (curve([2.0, 1.0 + 9e-6], [3.0, 3.0]), ()),
        (curve([2.0, 1.0 + 2e-5], [3.0, 3.0]), ("loss",)),
        (curve([2.0, 1.0], [3.0, 3.0 * (1 + 2e-4)], biases=1.0), ("grad_norm", "biases")),
        (curve([2.0, math.nan], [3.0, 3.0], norms=math.inf), ("loss", "norms")),
        (curve([2.0], [3.0]), ("loss", "grad_norm")),
    ],
)
def test_what_is_beyond_its_limit_is_named(got: dict[str, object], beyond: tuple[str, ...]) -> None:
    verdict = compare(got, WANT, "fp32")
    assert (verdict.beyond, verdict.equal) == (beyond, not beyond)


def test_16_bits_have_wider_limits() -> None:
    got = curve([2.0, 1.001], [3.0, 3.1], matrices=0.1)
    assert compare(got, WANT, "bf16").equal and compare(got, WANT, "fp16").equal
    assert not compare(got, WANT, "fp32").equal
    assert all(LIMITS["fp32"][column] < LIMITS["bf16"][column] for column in LIMITS["fp32"])
