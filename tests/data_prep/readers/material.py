"""Reading a small file for the tests of readers."""

from pathlib import Path
from typing import Any

from data_prep.readers.any import read_file
from data_prep.readers.base import InputFile, Reject
from data_prep.recipe import Recipe, Source, TokenizerRecipe
from data_prep.shards import Document


def recipe(root: Path, **source: Any) -> Recipe:
    return Recipe(
        out=str(root / "out"),
        root=str(root),
        sources=(Source(**{"name": "s", **source}),),
        tokenizer=TokenizerRecipe(kind="char"),
    )


def read(path: Path, data: bytes | None, kind: str | None, **source: Any) -> tuple[list[Document], list[Reject]]:
    """Documents and rejects of a file that is written with `data` first, if given."""
    if data is not None:
        path.write_bytes(data)
    return read_range(InputFile(str(path), path.name, kind), **source)


def read_range(file: InputFile, **source: Any) -> tuple[list[Document], list[Reject]]:
    documents, rejects = [], []
    for part in read_file(file, Source(name="s", paths=("x",), **source)):
        documents += [Document(**row) for row in part.documents.to_pylist()]
        rejects += part.rejects
    return documents, rejects
