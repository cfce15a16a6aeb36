"""HTML pages: single files, and the decoding that WARC records share."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

from data_prep.readers.base import InputFile, Part, Reject, html_attributes
from data_prep.readers.streams import open_stream, parts_of
from data_prep.readers.text import read_at_most
from data_prep.recipe import Source
from data_prep.shards import Document

_META = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]{1,40})""", re.IGNORECASE)
_META_BYTES = 4096
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def read_html(file: InputFile, source: Source) -> Iterator[Part]:
    """The page as one document, still HTML: the stage extract makes text of it."""

    def items() -> Iterator[Document | Reject]:
        with open_stream(Path(file.path)) as stream:
            data = read_at_most(stream, file.name, source.max_document_bytes)
        yield data if isinstance(data, Reject) else page(data, None, f"{source.name}/{file.name}", file.name, 1, source)

    yield from parts_of(items(), file, source.name)


def page(
    data: bytes, charset: str | None, identity: str, name: str, line: int, source: Source, url: str | None = None,
    date: str | None = None,
) -> Document | Reject:  # fmt: skip
    """A page's document; `charset` is what its HTTP header says."""
    text, used = decode(data, charset)
    if not text.strip():
        return Reject(name, line, "empty", "", len(data))
    return Document(identity, text, source.name, url, html_attributes(charset=used, date=date))


def decode(data: bytes, charset: str | None) -> tuple[str, str]:
    """Text and the charset that fitted: of a byte-order mark, the HTTP header, the page's own <meta>, or UTF-8.

    What fits none of them is read as Windows-1252, as browsers do; bytes without a meaning become U+FFFD.
    """
    for mark, name in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(name, "replace"), name
    meta = _META.search(data, 0, _META_BYTES)
    for candidate in (charset, meta[1].decode("ascii") if meta else None, "utf-8"):
        try:
            if candidate:
                text, name = data.decode(candidate), codecs.lookup(candidate).name
                text.encode()  # half surrogate pairs, from utf-7 or the like
                return text, name
        except (LookupError, UnicodeError, ValueError):
            continue
    return data.decode("cp1252", "replace"), "cp1252"
