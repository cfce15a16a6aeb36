import json
import subprocess
import sys

from data_prep.readers.python_corpus import (
    docstrings,
    fingerprint,
    library,
    module_files,
    read_documentation,
    read_modules,
)
from data_prep.shards import Document

SOURCE = '''
"""Module text."""
class A(Base, other.B):
    """Of A."""
    def f(self, x: int = 1, *args) -> None:
        """Of f."""
        def inner():
            """Hidden."""
    async def g(self): "Of g."
def undocumented(): pass
'''


def test_docstrings_stand_under_names_and_signatures() -> None:
    assert docstrings("m", SOURCE) == (
        "module m\n\nModule text.\n\nclass m.A(Base, other.B)\n\nOf A.\n\n"
        "m.A.f(self, x: int=1, *args)\n\nOf f.\n\nm.A.g(self)\n\nOf g."
    )
    assert docstrings("m", "x = 1") == ""


def test_modules_are_the_librarys_without_tests_and_tables() -> None:
    names = {path.relative_to(library()).as_posix() for path in module_files()}
    assert {"argparse.py", "json/decoder.py", "asyncio/__init__.py"} <= names
    for name in names:
        assert not {"test", "tests", "encodings", "site-packages", "idle_test"} & set(name.split("/")[:-1])
        assert not name.startswith("_sysconfigdata")


def test_documentation_has_topics_and_docstrings() -> None:
    items = [item for item in read_documentation("d") if isinstance(item, Document)]
    texts = {item.id: item.text for item in items}
    assert len(texts) == len(items)
    assert "assert_stmt" in texts["d/topics/assert"]
    assert "JSON (JavaScript Object Notation)" in texts["d/json/__init__.py"]
    assert "module json\n\n" in texts["d/json/__init__.py"]
    modules = {item.id: item.text for item in read_modules("m") if isinstance(item, Document)}
    assert modules["m/bisect.py"].startswith('"""Bisection algorithms."""')


def test_nothing_is_imported_and_the_fingerprint_repeats_elsewhere() -> None:
    code = (
        "import sys, hashlib, json\n"
        "from data_prep.readers.python_corpus import read_documentation, fingerprint\n"
        "n = sum(1 for _ in read_documentation('d'))\n"
        "assert not {'antigravity', 'turtle', 'tkinter'} & set(sys.modules), 'imported'\n"
        "print(json.dumps(fingerprint()))"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=100)
    assert json.loads(out.stdout) == fingerprint()
