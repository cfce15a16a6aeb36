"""The example's raw files, from the English text of the Python installation and a seed."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep.example.languages import SENTENCES
from data_prep.example.pages import packed, page, record
from data_prep.files import make_folder, replacing
from data_prep.readers.python_corpus import read_documentation
from data_prep.shards import Document
from megatron_nlg.config.errors import InputError

_BAD_LINES = (b'{"text": "cut off', b"[1, 2]", b'{"body": "no text here"}', b'{"text": 7}', b'{"text": " "}',
              b'{"text": "caf\xe9"}')  # fmt: skip
_CHATTER = "wow lol click here to win big now best deal cheap online free bonus hot offer buy visit site".split()  # noqa: SIM905


def write_example(folder: Path, seed: int) -> dict[str, int]:
    """Write the files; returns what was planted. Raises InputError when the folder holds anything."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: is not empty; choose a new folder")
    draw = random.Random(seed)
    texts = [d.text for d in read_documentation("d") if isinstance(d, Document) and 800 < len(d.text) < 20_000]
    draw.shuffle(texts)
    count = len(texts)
    books, forum, web = texts[: count // 4], texts[count // 4 : count // 2], texts[count // 2 :]
    for name in ("books", "forum", "web", "evaluation"):
        make_folder(folder / name)
    for i, text in enumerate(books):
        _write(folder / "books" / f"{i:03}.txt", text.encode())
    planted = _write_forum(folder / "forum", forum, draw) | _write_web(folder / "web", web, books, draw)
    return (
        {"books": len(books)} | planted | _write_evaluation(folder / "evaluation", [*forum[20:28], *web[20:24]], draw)
    )


def _write(path: Path, data: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def _lines(rows: Sequence[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _write_forum(folder: Path, texts: Sequence[str], draw: random.Random) -> dict[str, int]:
    """JSON lines, plain with bad lines among them, gzip and zstd; mojibake, and addresses to mask."""
    import pyarrow as pa

    rows = []
    for i, text in enumerate(texts):
        signature = f"\n\nAsked by user{i}@mail.example.org from 192.0.2.{i % 250}." if i % 7 == 0 else ""
        broken = "\n\nIt’s “fixed” – at the café.".encode().decode("cp1252", "replace") if i % 11 == 0 else ""
        rows.append(
            {"text": text + signature + broken, "url": f"https://forum.example.org/{i}", "votes": draw.randrange(50)}
        )
    third = len(rows) // 3
    plain = _lines(rows[:third]).splitlines(keepends=True)
    for i, bad in enumerate(_BAD_LINES):
        plain.insert(5 * (i + 1), bad + b"\n")
    _write(folder / "a.jsonl", b"".join(plain))
    _write(folder / "b.jsonl.gz", gzip.compress(_lines(rows[third : 2 * third]), mtime=0))
    _write(folder / "c.jsonl.zst", pa.compress(_lines(rows[2 * third :]), codec="zstd", asbytes=True))
    return {"forum": len(rows), "bad_lines": len(_BAD_LINES)}


def _write_web(folder: Path, texts: Sequence[str], books: Sequence[str], draw: random.Random) -> dict[str, int]:
    """A crawl: pages of text, again elsewhere with a few words changed, other languages, chatter, a damaged record."""
    pages = [(f"https://site{i % 5}.example.org/{i}", text) for i, text in enumerate(texts)]
    copies = [(f"https://mirror.example.net/{i}", _changed(text, draw)) for i, text in enumerate(texts[:15])]
    copies += [(f"https://mirror.example.net/book/{i}", text) for i, text in enumerate(books[:10])]
    foreign = []
    for code, sentences in SENTENCES.items():
        if code != "en":
            foreign.append((f"https://{code}.example.org/", "\n\n".join(" ".join(sentences) for _ in range(2))))
    chatter = [(f"https://win{i}.example.com/", _chatter(draw)) for i in range(240)]
    everything = pages + copies + foreign + chatter
    draw.shuffle(everything)
    records = []
    for i, (url, text) in enumerate(everything):
        site = url.split("/")[2]
        records.append(record(url, page(f"Page {i}", _paragraphs(text), site), i))
    records.insert(3, record("https://site0.example.org/gone", "not found", 9000, status="404 Not Found"))
    half = len(records) // 2
    members = [packed(r) for r in records[:half]]
    middle = len(members[10]) // 2
    members[10] = members[10][:middle] + b"\0" * 8 + members[10][middle + 8 :]
    _write(folder / "crawl.warc.gz", b"".join(members))
    _write(folder / "crawl.warc", b"".join(records[half:]))
    _write(folder / "single.html", page("A page by itself", _paragraphs(texts[0]), "site0.example.org").encode())
    kinds = {"web": pages, "copies": copies, "foreign": foreign, "chatter": chatter}
    return {name: len(items) for name, items in kinds.items()} | {"damaged_records": 1}


def _paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]


def _changed(text: str, draw: random.Random) -> str:
    """The text with one word in two hundred replaced."""
    words = text.split(" ")
    for _ in range(max(1, len(words) // 200)):
        words[draw.randrange(len(words))] = "otherwise"
    return " ".join(words)


def _chatter(draw: random.Random) -> str:
    """Words that make sentences of the right length and of no use."""
    sentences = [" ".join(draw.choices([*_CHATTER, "the", "to", "and", "of", "that"], k=14)) for _ in range(24)]
    return "\n\n".join(". ".join(sentences[i : i + 4]) + "." for i in range(0, 24, 4))


def _write_evaluation(folder: Path, texts: Sequence[str], draw: random.Random) -> dict[str, int]:
    """Questions of which some stand in `texts` word by word, and some nowhere."""
    words = [text.split() for text in texts]
    rows = [{"text": " ".join(part[len(part) // 2 :][:40])} for part in words]
    rows += [{"text": " ".join(draw.choices(_CHATTER, k=30)) + f" number {i}?"} for i in range(12)]
    _write(folder / "quiz.jsonl", _lines(rows))
    return {"contaminated": len(words)}
