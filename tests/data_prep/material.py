"""Material the tests of this package share: real data outside the repository, and small texts made here."""

import os
import random
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]


def data_folder(*parts: str) -> Path:
    """A path in the folder of real material, or a skip that says what is absent."""
    root = Path(os.environ.get("MEGATRON_NLG_DATA", str(_ROOT.parent / "shared" / "data")))
    path = root.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{path} is absent (set MEGATRON_NLG_DATA)")
    return path


WORDS = """
    the old sea keeps its own account of every ship that crossed beneath a winter moon and never came home
""".split()  # noqa: SIM905


def sentence(seed: int, words: int = 40) -> str:
    """A reproducible text of random words; different seeds share few 5-grams."""
    draw = random.Random(seed)
    return " ".join(draw.choice(WORDS) + str(draw.randrange(50)) for _ in range(words))


def variants(count: int, seed: int) -> list[str]:
    """Texts of which many are edits of an earlier one, from slight to heavy."""
    draw = random.Random(seed)
    texts = [sentence(seed, 60)]
    while len(texts) < count:
        words = draw.choice(texts).split()
        for _ in range(draw.randrange(12)):
            words[draw.randrange(len(words))] = f"new{draw.randrange(10**9)}"
        texts.append(" ".join(words) if draw.random() < 0.8 else sentence(draw.randrange(1 << 30), 60))
    return texts


def tree_bytes(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its relative path, for byte-for-byte comparison; the lock is no content."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }
