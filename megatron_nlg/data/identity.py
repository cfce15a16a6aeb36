"""Whether the data of a run are still those that its checkpoint has read, and what has changed where they are not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from megatron_nlg.data.clock import TokenClock

_SOURCE = re.compile(r"(?:stage (\d+): )?source (.*)", re.DOTALL)
SPLIT = "data.split"


def blend_keys(identity: Mapping[str, Any]) -> set[str]:
    """The keys that a changed blend changes, and that may be accepted."""
    return {key for key in identity if key == SPLIT or _SOURCE.fullmatch(key)}


def without_blend(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an identity that are none of the blend's."""
    return {key: value for key, value in identity.items() if key not in blend_keys(identity)}


def blend_changes(
    saved: Mapping[str, Any], wanted: Mapping[str, Any], consumed_samples: int, clock: TokenClock
) -> list[str]:
    """What differs in the part that has been read, one line each; stages that have not begun may be anything."""
    return list(_changes(_read(saved, consumed_samples, clock), _read(wanted, consumed_samples, clock)))


def _read(identity: Mapping[str, Any], consumed_samples: int, clock: TokenClock) -> dict[str, Any]:
    """The blend's entries that samples have been drawn by."""
    entries = {}
    for key in blend_keys(identity):
        match = _SOURCE.fullmatch(key)
        begin = int(match[1] or 0) if match else 0
        if begin == 0 or clock.samples(begin) < consumed_samples:
            entries[key] = identity[key]
    return entries


def _changes(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted({*saved, *wanted}):
        if key not in saved:
            yield f"{key} is new, with weight {wanted[key][0]:g}"
        elif key not in wanted:
            yield f"{key} is gone"
        elif saved[key] != wanted[key]:
            yield f"{key} {' and '.join(_differences(saved[key], wanted[key]))}"


def _differences(old: list[Any], new: list[Any]) -> Iterator[str]:
    if len(new) == 2:  # data.split
        yield f"is {new} and was {old}"
        return
    if old[0] != new[0]:
        yield f"has weight {new[0]:g} and had {old[0]:g}"
    if old[1:] != new[1:]:
        yield f"has {new[1]:,} documents with {new[2]:,} tokens and had {old[1]:,} with {old[2]:,}"
