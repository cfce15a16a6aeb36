"""Kinds of values that sections share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field


def whole(value: Any) -> Any:
    """`64e6` is a float in YAML and a count to a reader."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def as_tuple(value: Any) -> Any:
    """YAML knows lists only."""
    return tuple(value) if isinstance(value, list) else value


def listed(value: Any) -> Any:
    """`paths: a.txt` is one path."""
    return [value] if isinstance(value, str) else value


Count = Annotated[int, BeforeValidator(whole), Field(ge=0)]
Positive = Annotated[int, BeforeValidator(whole), Field(ge=1)]
Strings = Annotated[tuple[str, ...], BeforeValidator(as_tuple), BeforeValidator(listed)]
