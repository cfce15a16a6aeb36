"""HTML pages with menus and footers, and WARC records of them."""

from __future__ import annotations

import gzip
import html
import uuid
from collections.abc import Sequence

_SECTIONS = ("Home", "News", "Library", "Downloads", "Community", "Events", "Contact", "About us", "Help")


def page(title: str, paragraphs: Sequence[str], site: str) -> str:
    """A page whose text stands between what every page of a site has."""
    menu = "".join(f'<li><a href="/{name.lower().replace(" ", "-")}">{name}</a></li>' for name in _SECTIONS)
    body = "\n".join(f"<p>{html.escape(paragraph)}</p>" for paragraph in paragraphs)
    return f"""<!DOCTYPE html>
<html><head><meta charset="utf-8"><title>{html.escape(title)} - {site}</title>
<script>var tracker = {{ page: "{site}" }};</script><style>nav li {{ display: inline }}</style></head>
<body><nav><ul>{menu}</ul></nav>
<div class="content"><h1>{html.escape(title)}</h1>
{body}
</div>
<div class="side"><h3>Most read</h3><ul><li><a href="/1">Ten tips</a></li><li><a href="/2">Archive</a></li></ul></div>
<footer><a href="/terms">Terms of use</a> | <a href="/privacy">Privacy</a> | Copyright {site}</footer></body></html>
"""


def record(
    url: str, content: str, number: int, status: str = "200 OK", kind: str = "text/html; charset=utf-8"
) -> bytes:
    """A WARC response record, plain."""
    data = content.encode()
    http = (
        f"HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(data)}\r\n\r\n".encode()
        + data
    )
    head = (
        "WARC/1.0\r\nWARC-Type: response\r\n"
        f"WARC-Record-ID: <urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{url}#{number}')}>\r\n"
        f"WARC-Target-URI: {url}\r\nWARC-Date: 2026-01-01T00:{number // 60 % 60:02}:{number % 60:02}Z\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(http)}\r\n\r\n"
    )
    return head.encode() + http + b"\r\n\r\n"


def packed(record: bytes) -> bytes:
    """A record as its own gzip member, as crawls have it; the same bytes every time."""
    return gzip.compress(record, mtime=0)
