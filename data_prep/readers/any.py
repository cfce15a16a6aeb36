"""Reading a file of any format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_prep.readers import python_corpus
from data_prep.readers.base import InputFile, Part, Reader, Reject, only
from data_prep.readers.html import read_html
from data_prep.readers.jsonl import read_jsonl
from data_prep.readers.parquet import read_parquet
from data_prep.readers.streams import parts_of, stream_reject
from data_prep.readers.text import read_text
from data_prep.readers.warc import read_warc
from data_prep.recipe import Source

_READERS: dict[str, Reader] = {
    "text": read_text,
    "jsonl": read_jsonl,
    "parquet": read_parquet,
    "warc": read_warc,
    "html": read_html,
}
UNKNOWN_ENDING = "unknown_ending"
"""The one reason of rejects that are files nobody asked for."""


def read_file(file: InputFile, source: Source) -> Iterator[Part]:
    """Documents and rejects of a file, in order."""
    if file.format is None:
        size = Path(file.path).stat().st_size
        yield only(Reject(file.name, None, UNKNOWN_ENDING, "set the source's format to read it", size), source.name)
        return
    try:
        yield from _READERS[file.format](file, source)
    except OSError as error:
        yield only(stream_reject(file, error), source.name)


def read_python(source: Source) -> Iterator[Part]:
    """Documents of the Python installation, by the source's format."""
    nowhere = InputFile("", source.format, None)
    if source.format == "python_documentation":
        yield from parts_of(python_corpus.read_documentation(source.name), nowhere, source.name)
    else:
        yield from parts_of(python_corpus.read_modules(source.name), nowhere, source.name)
