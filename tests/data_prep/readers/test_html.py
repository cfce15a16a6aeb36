import json
from pathlib import Path

import pytest

from data_prep.readers.html import decode
from tests.data_prep.readers.material import read


@pytest.mark.parametrize(
    ("data", "charset", "text", "used"),
    [
        ("é".encode(), None, "é", "utf-8"),
        ("é".encode("latin-1"), "latin-1", "é", "iso8859-1"),
        (b"<meta charset='koi8-r'>" + "ж".encode("koi8-r"), None, "<meta charset='koi8-r'>ж", "koi8-r"),
        (b"<meta charset=nonsense>\xc3\xa9", "x-unknown", "<meta charset=nonsense>é", "utf-8"),
        (b"\xe9\x81", "utf-8", "é\ufffd", "cp1252"),
        (b"\xff\xfea\x00", "utf-8", "a", "utf-16-le"),
        (b"\xef\xbb\xbfa", None, "a", "utf-8"),
    ],
)
def test_charsets(data: bytes, charset: str | None, text: str, used: str) -> None:
    assert decode(data, charset) == (text, used)


def test_a_page_is_marked_as_html(tmp_path: Path) -> None:
    (page,), _ = read(tmp_path / "a.html", b"<p>text", "html")
    assert (page.id, page.text) == ("s/a.html", "<p>text")
    assert json.loads(page.attributes or "") == {"charset": "utf-8", "content_type": "text/html"}
    _, (reject,) = read(tmp_path / "b.html", b"x" * 11, "html", max_document_bytes=10)
    assert reject.reason == "too_large"
