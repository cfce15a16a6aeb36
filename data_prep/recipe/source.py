"""What is read."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from data_prep.recipe.kinds import Positive, Strings
from megatron_nlg.config.base import Section

PYTHON_FORMATS = ("python_documentation", "python_modules")


class Source(Section):
    """One named part of the corpus: its own token files, its own weight in the blend."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    """Letters, digits, - and _; names the files `tokens/NAME.bin` and the validation loss."""
    paths: Strings = ()
    """Files, folders (searched recursively) and globs (`**` for any depth); `.gz` and `.zst` are unpacked. None for the
    formats that read the Python installation."""
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Share of the training samples, relative to the other sources' weights."""
    format: Literal["auto", "text", "jsonl", "parquet", "warc", "html", "python_documentation", "python_modules"] = (
        "auto"
    )
    """auto goes by the ending: .jsonl and .ndjson are JSON lines; .parquet, .warc and .html, .htm, .xhtml speak for
    themselves; .txt, .text, .md and .rst are text, as is any file that is named by itself. The Python formats are the
    documentation and the module sources of the standard library."""
    text_key: str = "text"
    """Key of a JSON line, or column of a Parquet file, that holds the text; `url` is kept as such, all others as
    attributes."""
    split: Literal["file", "blank_lines", "parts", "parts_at_lines"] = "file"
    """A document of a text file: the whole file, a run of lines between blank ones, or one of `parts` equal cuts, made
    exactly there or at the start of the line."""
    parts: Positive = 10
    """Documents that the two `parts` splits cut a file into; the i-th cut is at characters × i // parts."""
    max_document_bytes: Positive = 32 << 20
    """Longer documents (bytes of UTF-8 text, or of an HTML page) are rejected as too_large."""
