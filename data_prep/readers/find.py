"""Which files a source has, and the units of work that they make."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_prep.readers.base import InputFile
from data_prep.recipe import Recipe, Source
from megatron_nlg.config.errors import InputError, Problem

_FORMATS = {
    "jsonl": {".jsonl", ".ndjson"},
    "text": {".txt", ".text", ".md", ".rst"},
    "parquet": {".parquet"},
    "warc": {".warc"},
    "html": {".html", ".htm", ".xhtml"},
}
COMPRESSIONS = {".gz", ".zst"}


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
    ending = (Path(path.stem).suffix if path.suffix in COMPRESSIONS else path.suffix).lower()
    for name, endings in _FORMATS.items():
        if ending in endings:
            return name
    return "text" if alone else None


def units(files: Sequence[InputFile], unit_bytes: int) -> Iterator[list[InputFile]]:
    """Runs of files of about `unit_bytes` together: what one worker reads, whatever the number of workers.

    A plain JSONL file of more bytes is split into ranges, each a unit; lines belong to the range that they start in.
    """
    run: list[InputFile] = []
    size = 0
    for file in files:
        length = Path(file.path).stat().st_size
        if length > unit_bytes and file.format == "jsonl" and Path(file.path).suffix not in COMPRESSIONS:
            if run:
                yield run
                run, size = [], 0
            cuts = [*range(0, length, unit_bytes), length]
            yield from ([file._replace(start=cuts[i], end=cuts[i + 1])] for i in range(len(cuts) - 1))
            continue
        run.append(file)
        size += length
        if size >= unit_bytes:
            yield run
            run, size = [], 0
    if run:
        yield run
