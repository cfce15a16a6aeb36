"""Published files as text, plain or compressed by xz, and their tables; what is wrong with one names file and line."""

from __future__ import annotations

import csv
import io
import lzma
from collections.abc import Iterator, Sequence
from pathlib import Path

from megatron_nlg.config.errors import InputError

Record = tuple[str, dict[str, str]]
"""`FILE, line N`, and the columns by name."""


def read_text(path: Path) -> str:
    """UTF-8 text of a file, unpacked where its name ends in .xz. Raises InputError."""
    try:
        data = path.read_bytes()
        if path.suffix == ".xz":
            data = lzma.decompress(data)
        return data.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; name a file that can be read") from None
    except (lzma.LZMAError, EOFError) as error:
        raise InputError(f"{path}: is not a whole .xz file ({error}); get it again") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 at byte {error.start}; convert it") from None


def tab_separated(path: Path, columns: Sequence[str]) -> Iterator[Record]:
    """Rows of a file with a line of names and no quoting. Raises InputError for one without `columns`."""
    lines = [line.removesuffix("\r") for line in read_text(path).split("\n")]
    names = lines[0].split("\t")
    _check_names(path, names, columns)
    for number, line in enumerate(lines[1:], 2):
        if not line:
            continue
        cells = line.split("\t")
        if len(cells) != len(names):
            raise InputError(f"{path}, line {number}: has {len(cells)} columns, and line 1 names {len(names)}; mend it")
        yield f"{path}, line {number}", dict(zip(names, cells, strict=True))


def comma_separated(path: Path, columns: Sequence[str]) -> Iterator[Record]:
    """Rows of a CSV file with names and double quotes. Raises InputError likewise."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        names = next(reader, [])
        _check_names(path, names, columns)
        for cells in reader:
            if len(cells) != len(names):
                raise InputError(
                    f"{path}, line {reader.line_num}: has {len(cells)} columns, and line 1 names {len(names)}; mend it"
                )
            yield f"{path}, line {reader.line_num}", dict(zip(names, cells, strict=True))
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: is not CSV ({error}); mend it") from None


def _check_names(path: Path, names: Sequence[str], columns: Sequence[str]) -> None:
    absent = [column for column in columns if column not in names]
    if absent:
        raise InputError(
            f"{path}, line 1: has no column {absent[0]!r}, but {', '.join(names)[:120] or 'nothing'}; give the file in "
            "its published format"
        )
