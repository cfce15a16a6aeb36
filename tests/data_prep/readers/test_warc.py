import gzip
import json
from pathlib import Path

import pytest

from tests.data_prep.readers.material import read

pytest.importorskip("warcio", reason="of the extra web")


def record(
    body: bytes, kind: str = "text/html; charset=utf-8", status: str = "200 OK", url: str = "http://x/"
) -> bytes:
    http = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n\r\n".encode() + body
    head = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2026-01-02T03:04:05Z\r\n"
        "WARC-Record-ID: <urn:uuid:12345678-1234-1234-1234-123456789012>\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(http)}\r\n\r\n"
    )
    return head.encode() + http + b"\r\n\r\n"


INFO = b"WARC/1.0\r\nWARC-Type: warcinfo\r\nContent-Length: 3\r\n\r\na: \r\n\r\n"
PAGE = "<p>Grüße".encode()


def test_pages_of_a_plain_file(tmp_path: Path) -> None:
    data = INFO + record(PAGE) + record(b"{}", "application/json") + record(b"gone", status="404 Not Found")
    data += record("<p>schön".encode("latin-1"), "text/html; charset=ISO-8859-1", url="http://y/")
    documents, rejects = read(tmp_path / "a.warc", data, "warc")
    assert not rejects
    assert [(d.id, d.text, d.url) for d in documents] == [
        ("s/a.warc:2", "<p>Grüße", "http://x/"),
        ("s/a.warc:5", "<p>schön", "http://y/"),
    ]
    assert json.loads(documents[1].attributes or "") == {
        "charset": "iso8859-1", "content_type": "text/html", "date": "2026-01-02T03:04:05Z"
    }  # fmt: skip


def test_a_damaged_record_costs_itself_alone(tmp_path: Path) -> None:
    pages = [gzip.compress(record(b"<p>%d " % i + bytes(range(32, 127)) * 30)) for i in range(5)]
    pages[2] = pages[2][:40] + b"\xff" * 20 + pages[2][60:]
    documents, rejects = read(tmp_path / "a.warc.gz", b"".join(pages), "warc")
    assert [d.text[3] for d in documents] == ["0", "1", "3", "4"]
    assert [r.reason for r in rejects] == ["damaged_record"]
    plain = record(b"<p>one") + record(b"<p>two").replace(b"Content-Length: ", b"Content-Length: x") + record(b"<p>3")
    documents, rejects = read(tmp_path / "a.warc", plain, "warc")
    assert [d.text for d in documents][-1] == "<p>3"
    assert documents[0].text == "<p>one"


def test_a_cut_file_keeps_what_is_whole(tmp_path: Path) -> None:
    for name, pack in (("a.warc", bytes), ("a.warc.gz", gzip.compress)):
        whole = pack(record(b"<p>one")) + pack(record(b"<p>" + bytes(range(32, 127)) * 30))
        documents, (reject,) = read(tmp_path / name, whole[:-30], "warc")
        assert [d.text for d in documents] == ["<p>one"]
        assert (reject.reason, reject.line) == ("damaged_record", 2)


def test_too_large_and_empty(tmp_path: Path) -> None:
    data = record(b"x" * 101) + record(b" \n") + record(b"<p>ok")
    documents, rejects = read(tmp_path / "a.warc", data, "warc", max_document_bytes=100)
    assert [(r.line, r.reason) for r in rejects] == [(1, "too_large"), (2, "empty")]
    assert len(documents) == 1
