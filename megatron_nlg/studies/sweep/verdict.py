"""What became of a run, by its loss curve alone: pure functions.

Levels are medians over a tenth of the steps (five at least), which single steps do not move. In this order, a run has

* diverged, when a loss was not finite or training gave up on gradients that were not; when it ends more than
  `rise` nats above its own lowest level; or when, after the warm-up, it ends above where it began and above the uniform
  level, ln(vocabulary), which a model reaches that knows nothing;
* spikes, when it came back, but a loss lay by `margin` above where it began and above the uniform level, or above the
  median of the `window` losses before it by `factor` standard deviations (1.4826 × the median absolute deviation) and
  by `margin`, which is the rule of the trainer's loss guard. Neighbouring steps are one spike;
* not learnt, when it ends above the uniform level, but never rose: its rate is too small for so few steps;
* been stable, else.

Stable is not good: with Adam, rates long before divergence end far above the best rate of the same model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from megatron_nlg.config.schema import Guard
from megatron_nlg.studies.sweep.rules import Rules
from megatron_nlg.training.guard import GuardState, LossGuard

STABLE, SPIKES, DIVERGED, NOT_LEARNT = "stable", "spikes", "diverged", "not learnt"
FAILED, UNFINISHED = "failed", "unfinished"
"""A run that ended for another reason, or has not ended yet: no verdict on its stability."""


@dataclass(frozen=True)
class Verdict:
    """What became of a run."""

    word: str
    why: str
    final: float | None
    """Median loss of the last tenth of the steps; None when there is none, or one is not finite."""
    spikes: tuple[int, ...] = ()
    """Steps at which spikes began."""


def judge(
    losses: Sequence[float | None], uniform: float, warmup_steps: int, rules: Rules, gave_up: str | None = None
) -> Verdict:
    """Judge the losses of steps 1, 2, …; None is one that was not finite. `gave_up` is why training ended itself."""
    broken = next((step for step, loss in enumerate(losses, 1) if loss is None or not math.isfinite(loss)), None)
    if broken is not None:
        return Verdict(DIVERGED, f"the loss of step {broken} is not finite", None)
    curve = [loss for loss in losses if loss is not None]
    if not curve:
        return Verdict(DIVERGED if gave_up else UNFINISHED, gave_up or "no step has been logged", None)
    spikes = spikes_of(curve, uniform, rules)
    width = max(5, len(curve) // 10)
    final = median(curve[-width:])
    if why := gave_up or _divergence(curve, final, min(_levels(curve, width)), uniform, warmup_steps, rules):
        return Verdict(DIVERGED, why, final, spikes)
    if spikes:
        return Verdict(SPIKES, f"{len(spikes)} of them, the first at step {spikes[0]}", final, spikes)
    if final > uniform:
        return Verdict(NOT_LEARNT, f"ends at {final:.3f}, above the uniform level {uniform:.3f}", final)
    return Verdict(STABLE, f"ends at {final:.3f}", final)


def _divergence(
    curve: Sequence[float], final: float, lowest: float, uniform: float, warmup_steps: int, rules: Rules
) -> str | None:
    """Why a curve of finite losses counts as diverged."""
    if final > lowest + rules.rise:
        return f"ends at {final:.3f}, and had been at {lowest:.3f}"
    if len(curve) > warmup_steps and final > max(curve[0], uniform):
        return f"ends at {final:.3f}, above where it began"
    return None


def spikes_of(losses: Sequence[float], uniform: float, rules: Rules) -> tuple[int, ...]:
    """Steps, from 1, at which spikes of a curve of finite losses begin.

    Unlike in the guard, all losses enter the window: a curve that stays up is not one spike without end.
    """
    worst = max([uniform, *losses[:1]]) + rules.spike_margin
    guard = LossGuard(
        Guard(spike_window=rules.spike_window, spike_factor=rules.spike_factor, spike_margin=rules.spike_margin),
        GuardState(),
    )
    found: list[int] = []
    above = False
    for step, loss in enumerate(losses, 1):
        was, above = above, loss > min(worst, guard.limit())
        if above and not was:
            found.append(step)
        guard.applied(loss)
    return tuple(found)


def largest_stable(rates: Sequence[float], words: Sequence[str]) -> tuple[float | None, bool]:
    """The largest rate that is stable, with none below it unstable; and whether it is the largest that was tried.

    Rates whose runs have no verdict end the search like unstable ones: what lies beyond is not known.
    """
    best: float | None = None
    for rate, word in sorted(zip(rates, words, strict=True)):
        if word not in (STABLE, NOT_LEARNT):
            return best, False
        if word == STABLE:
            best = rate
    return best, best is not None and best == max(rates)


def largest_good(
    rates: Sequence[float], words: Sequence[str], finals: Sequence[float | None], worse: float
) -> float | None:
    """The largest stable rate that ends no more than `worse` above the stable one that ends lowest."""
    ends = {
        rate: final
        for rate, word, final in zip(rates, words, finals, strict=True)
        if word == STABLE and final is not None
    }
    return max((rate for rate, final in ends.items() if final <= min(ends.values()) + worse), default=None)


def _levels(curve: Sequence[float], width: int) -> list[float]:
    """Medians over `width` neighbouring losses; one over all of them when there are fewer."""
    width = min(width, len(curve))
    return [median(curve[end - width : end]) for end in range(width, len(curve) + 1)]
