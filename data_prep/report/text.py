"""Numbers as a reader wants them."""

from __future__ import annotations

from datetime import datetime


def count_text(value: float) -> str:
    """614400 as 614 k, 1234 as 1,234; three digits from ten thousand on."""
    for unit, size in ((" T", 1e12), (" G", 1e9), (" M", 1e6), (" k", 1e3)):
        if abs(value) >= max(size, 1e4):
            return f"{value / size:.3g}{unit}" if abs(value) / size < 999.5 else f"{value / size:.0f}{unit}"
    return f"{value:,.0f}"


def bytes_text(value: int) -> str:
    """Bytes in decimal units."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}" if value / size < 999.5 else f"{value / size:.0f} {unit}"
    return f"{value} B"


def duration_text(seconds: float) -> str:
    """Seconds as `1 h 02 min`, `3 min 20 s` or `4.1 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def time_text(seconds: float) -> str:
    """Seconds since the epoch as local date and time."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")
