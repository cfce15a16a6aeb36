"""Personal data in texts: e-mail and IP addresses, found and masked."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

_EMAIL = re.compile(
    # Lengths are bounded (RFC 5321), so that a long run of letters costs no more than its length.
    r"(?<![\w.%+@-])[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})\.){1,8}[A-Za-z]{2,24}(?![\w@])"
)
_IP = re.compile(
    r"(?<![\w.:])(?:(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?!\.?\w)|(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:]))"
)
_CANDIDATES = {"email": r"\w@\w", "ip": r"[0-9]\.[0-9]{1,3}\.[0-9]|[0-9A-Fa-f:]:[0-9A-Fa-f]"}
"""Patterns, quickly searched, that every text with an address matches."""


def mask_texts(texts: pa.Array, kind: str, instead: str) -> tuple[pa.Array, int]:
    """Texts with every address of a kind (email or ip) replaced, and how many there were."""
    mask = pc.match_substring_regex(texts, _CANDIDATES[kind])
    if not pc.any(mask).as_py():
        return texts, 0
    pattern, known = (_EMAIL, None) if kind == "email" else (_IP, _is_address)
    masked = [_mask(text, pattern, instead, known) for text in texts.filter(mask).to_pylist()]
    changed = pa.array([text for text, _ in masked], pa.large_string())
    return pc.replace_with_mask(texts, mask, changed), sum(count for _, count in masked)


def _mask(text: str, pattern: re.Pattern[str], instead: str, known: Callable[[str], bool] | None) -> tuple[str, int]:
    count = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal count
        if known and not known(match[0]):
            return match[0]
        count += 1
        return instead

    return pattern.sub(replace, text), count


def _is_address(text: str) -> bool:
    """Times (12:34:56) and names of C++ (a::b) look like addresses of version 6."""
    if ":" in text and ("." in text or sum(map(bool, text.split(":"))) < 2 or not any(c.isdigit() for c in text)):
        return False
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
