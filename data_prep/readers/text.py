"""Raw files to documents: text and JSON lines, plain or gzip. What can't be read is reported, and reading goes on."""

from __future__ import annotations

import glob
import gzip
import io
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, NamedTuple

from data_prep.recipe import Recipe, Source
from data_prep.shards import Document
from megatron_nlg.config.errors import InputError, Problem

_JSONL = {".jsonl", ".ndjson"}
_TEXT = {".txt", ".text", ".md", ".rst"}
_BOM = b"\xef\xbb\xbf"
_DETAIL_CHARACTERS = 200


class Reject(NamedTuple):
    """A record that did not become a document: a line of `rejects.jsonl`."""

    file: str
    line: int | None
    reason: str
    detail: str
    size: int
    """Bytes of the raw record."""


class InputFile(NamedTuple):
    """A file to read, the name it has in ids and reports, and how it is read (None: its ending is not known)."""

    path: str
    name: str
    format: str | None


def find_files(recipe: Recipe, source: Source) -> tuple[list[InputFile], list[Problem]]:
    """Files of a source: paths in the recipe's order, sorted within a folder or a glob, each file once.

    Hidden files and the output folder are left out. A path that matches nothing is a problem.
    """
    found: dict[Path, InputFile] = {}
    problems = []
    out = Path(recipe.out).resolve()
    for text in source.paths:
        path = recipe.input_path(text)
        matches = [path] if path.exists() else [Path(p) for p in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207
        if not matches:
            mend = "mend the path, or set root to the folder that it starts from"
            problems.append(Problem(f"sources.{source.name}.paths", f"{str(path)!r} matches nothing", mend))
        for match in matches:
            for file in _below(match) if match.is_dir() else [match]:
                resolved = file.resolve()
                if file.is_file() and out not in resolved.parents and resolved not in found:
                    found[resolved] = InputFile(str(file), _name(file, recipe), _format(source, file, file == path))
    if not found and not problems and source.paths:
        shown = ", ".join(str(recipe.input_path(path)) for path in source.paths)
        problems.append(Problem(f"sources.{source.name}.paths", f"no file below {shown}", "mend the path, or root"))
    return list(found.values()), problems


def _below(folder: Path) -> Iterator[Path]:
    """Files below a folder, hidden ones left out, links to folders followed once."""

    def fail(error: OSError) -> None:
        raise InputError(f"{error.filename}: cannot be listed: {error.strerror}; mend its permissions, or leave it out")

    seen = set()
    for here, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        seen.add(Path(here).resolve())
        folders[:] = sorted(n for n in folders if not n.startswith(".") and Path(here, n).resolve() not in seen)
        yield from (Path(here, name) for name in sorted(names) if not name.startswith("."))


def _name(path: Path, recipe: Recipe) -> str:
    """Relative to root where it lies below it, so that ids do not depend on where root is."""
    root = Path(recipe.root)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _format(source: Source, path: Path, alone: bool) -> str | None:
    if source.format != "auto":
        return source.format
    ending = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if ending.lower() in _JSONL:
        return "jsonl"
    return "text" if alone or ending.lower() in _TEXT else None


def read_file(file: InputFile, source: Source) -> Iterator[Document | Reject]:
    """Documents and rejects of a file, in order."""
    if file.format is None:
        yield Reject(
            file.name, None, "unknown_ending", "set the source's format to read it", Path(file.path).stat().st_size
        )
        return
    reader = _read_jsonl if file.format == "jsonl" else _TEXT_READERS[source.split]
    try:
        with _open(Path(file.path)) as stream:
            yield from reader(stream, file.name, source)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        yield Reject(file.name, None, "damaged_gzip", f"the rest of the file is lost: {error}", 0)
    except OSError as error:
        yield Reject(file.name, None, "unreadable", error.strerror or str(error), 0)


def _open(path: Path) -> IO[bytes]:
    return io.BufferedReader(gzip.GzipFile(path)) if path.suffix == ".gz" else path.open("rb")


def _read_whole(stream: IO[bytes], name: str, source: Source) -> Iterator[Document | Reject]:
    yield _decode(stream.read().removeprefix(_BOM), name, 1, name, source)


def _read_parts(stream: IO[bytes], name: str, source: Source) -> Iterator[Document | Reject]:
    whole = _decode(stream.read().removeprefix(_BOM), name, 1, name, source)
    if isinstance(whole, Reject):
        yield whole
        return
    text = whole.text
    cuts = [len(text) * i // source.parts for i in range(source.parts + 1)]
    if source.split == "parts_at_lines":
        cuts[1:-1] = [text.rfind("\n", 0, cut) + 1 for cut in cuts[1:-1]]
    for i, (start, end) in enumerate(pairwise(cuts)):
        if end > start:
            yield whole._replace(id=f"{whole.id}#{i}", text=text[start:end])


def _read_paragraphs(stream: IO[bytes], name: str, source: Source) -> Iterator[Document | Reject]:
    lines: list[bytes] = []
    start = 1
    for number, line in enumerate(stream, 1):
        text = line.removeprefix(_BOM) if number == 1 else line
        if text.strip():
            start = start if lines else number
            lines.append(text)
        elif lines:
            yield _decode(b"".join(lines), name, start, f"{name}:{start}", source)
            lines = []
    if lines:
        yield _decode(b"".join(lines), name, start, f"{name}:{start}", source)


def _decode(data: bytes, name: str, line: int, where: str, source: Source) -> Document | Reject:
    """A document of a text file, or why not; `line` is the first line of `data`."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        bad = line + data.count(b"\n", 0, error.start)
        return Reject(name, bad, "invalid_utf8", f"byte {data[error.start]:#04x}: {error.reason}", len(data))
    if not text.strip():
        return Reject(name, line, "empty", "", len(data))
    return Document(f"{source.name}/{where}", text, source.name)


_TEXT_READERS = {
    "file": _read_whole,
    "blank_lines": _read_paragraphs,
    "parts": _read_parts,
    "parts_at_lines": _read_parts,
}


def _read_jsonl(stream: IO[bytes], name: str, source: Source) -> Iterator[Document | Reject]:
    for number, raw in enumerate(stream, 1):
        line = raw.removeprefix(_BOM) if number == 1 else raw
        if not line.strip():
            continue
        row, reason, detail = _parse(line, source.text_key)
        if reason:
            yield Reject(name, number, reason, detail[:_DETAIL_CHARACTERS], len(line))
            continue
        text, url = row.pop(source.text_key), row.get("url")
        if isinstance(url, str) and _encodable(url):
            del row["url"]
        else:
            url = None
        attributes = json.dumps(row, sort_keys=True) if row else None
        yield Document(f"{source.name}/{name}:{number}", text, source.name, url, attributes)


def _parse(line: bytes, key: str) -> tuple[dict[str, Any], str, str]:
    """A JSON line's object, or the reason and the detail of its rejection."""
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return {}, "invalid_utf8", f"byte {line[error.start]:#04x} at column {error.start + 1}: {error.reason}"
    except (ValueError, RecursionError) as error:
        return {}, "invalid_json", str(error)
    if not isinstance(row, dict):
        return {}, "not_an_object", f"a JSON object is expected, not {type(row).__name__}"
    return row, *_text_problem(row, key)


def _text_problem(row: dict[str, Any], key: str) -> tuple[str, str]:
    if key not in row:
        return "missing_text", f"no key {key!r}; it has {', '.join(map(repr, row))}"
    text = row[key]
    if not isinstance(text, str):
        return "wrong_type", f"{key!r} holds {type(text).__name__}, not a string"
    if not _encodable(text):
        return "invalid_unicode", f"{key!r} holds half of a surrogate pair"
    return "" if text.strip() else "empty", ""


def _encodable(text: str) -> bool:
    """JSON can spell half of a surrogate pair, which no UTF-8 file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def units(files: Sequence[InputFile], unit_bytes: int) -> Iterator[list[InputFile]]:
    """Runs of files of about `unit_bytes` together: what one worker reads, whatever the number of workers."""
    run: list[InputFile] = []
    size = 0
    for file in files:
        run.append(file)
        size += Path(file.path).stat().st_size
        if size >= unit_bytes:
            yield run
            run, size = [], 0
    if run:
        yield run
