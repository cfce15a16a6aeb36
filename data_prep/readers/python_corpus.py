"""The English text of the Python installation itself, as two sources: enough to try everything without a download.

`documentation` is the language reference's topics (`pydoc_data`) and the docstrings of the standard library, one
document a topic or module; `modules` is the source of every module of the standard library. Modules are parsed, never
imported. Tests are left out, and so are tables that are not written by hand: character maps, and build variables,
which would also carry paths of the machine.
"""

from __future__ import annotations

import ast
import inspect
import sys
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.readers.base import Reject
from data_prep.shards import Document

_TEST_FOLDERS = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
_TABLE_FOLDERS = {"encodings", "pydoc_data"}


def module_files() -> list[Path]:
    """Sources of the standard library's modules, sorted by their path below it."""
    root = library()
    files = [path for path in root.rglob("*.py") if _wanted(path.relative_to(root))]
    return sorted(files, key=lambda path: path.relative_to(root).as_posix())


def library() -> Path:
    """Folder of the standard library."""
    return Path(sysconfig.get_path("stdlib"))


def _wanted(path: Path) -> bool:
    folders = set(path.parts[:-1])
    return not (folders & (_TEST_FOLDERS | _TABLE_FOLDERS)) and not path.name.startswith("_sysconfigdata")


def fingerprint() -> list[Any]:
    """What the two sources depend on: the interpreter, and each file's name and size."""
    root = library()
    return [sys.version, [[path.relative_to(root).as_posix(), path.stat().st_size] for path in module_files()]]


def read_documentation(source: str) -> Iterator[Document | Reject]:
    """The language reference's topics by name, then each module's docstrings."""
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield Document(f"{source}/topics/{name}", topics[name], source)
    for item in read_modules(source):
        if isinstance(item, Reject):
            yield item
            continue
        path = item.id.removeprefix(f"{source}/")
        try:
            text = docstrings(_module_name(path), item.text)
        except (SyntaxError, ValueError, RecursionError) as error:
            yield Reject(path, None, "not_python", str(error), len(item.text.encode()))
            continue
        if text:
            yield item._replace(text=text)


def read_modules(source: str) -> Iterator[Document | Reject]:
    """Each module's source text."""
    for path in module_files():
        name = path.relative_to(library()).as_posix()
        try:
            text = _source(path)
        except (OSError, SyntaxError, UnicodeDecodeError) as error:
            yield Reject(name, None, "not_python", str(error), path.stat().st_size)
            continue
        if text.strip():
            yield Document(f"{source}/{name}", text, source)


def _source(path: Path) -> str:
    with tokenize.open(path) as stream:  # honours the coding line
        return stream.read()


def _module_name(path: str) -> str:
    parts = path.removesuffix(".py").split("/")
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def docstrings(name: str, text: str) -> str:
    """The docstrings of a module's source, each under its object's name and signature; empty when there are none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in old sources
        tree = ast.parse(text)
    return "\n\n".join(_sections(tree, f"module {name}", name))


def _sections(
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, title: str, name: str
) -> Iterator[str]:
    text = ast.get_docstring(node, clean=False)
    if text and text.strip():
        yield f"{title}\n\n{inspect.cleandoc(text)}"
    for child in node.body:
        if isinstance(child, ast.ClassDef):
            bases = ", ".join(map(ast.unparse, child.bases))
            path = f"{name}.{child.name}"
            yield from _sections(child, f"class {path}({bases})" if bases else f"class {path}", path)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and isinstance(node, ast.Module | ast.ClassDef):
            path = f"{name}.{child.name}"
            yield from _sections(child, f"{path}({ast.unparse(child.args)})", path)
