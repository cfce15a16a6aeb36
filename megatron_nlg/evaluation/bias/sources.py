"""The published files that a study of bias can use, found by their names in the folders that a user gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from megatron_nlg.config.errors import InputError

DEPTH = 3
"""Folders below the given one, itself included."""
PATTERNS = {
    "professions": ("*professions*.json",),
    "winogender": ("all_sentences.tsv",),
    "crows_pairs": ("crows_pairs*.csv",),
    "stereoset": ("stereoset*.json", "dev.json"),
    "sentiwordnet": ("sentiwordnet*",),
    "vader": ("vader_lexicon*",),
}


@dataclass(frozen=True)
class Sources:
    """Paths; None where there is none."""

    professions: Path | None = None
    winogender: Path | None = None
    crows_pairs: Path | None = None
    stereoset: Path | None = None
    sentiwordnet: Path | None = None
    vader: Path | None = None


def find_sources(folders: Sequence[Path]) -> Sources:
    """Raises InputError for a folder that is none, and for two files of a kind."""
    files: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"--data {folder}: is not a folder; name one with published sets or lexicons")
        for depth in range(DEPTH):
            files |= {path.resolve(): path for path in folder.glob("*/" * depth + "*") if path.is_file()}
    found: dict[str, Path] = {}
    for kind, patterns in PATTERNS.items():
        paths = sorted(p for p in files.values() if any(fnmatch(p.name.lower(), pattern) for pattern in patterns))
        if len(paths) > 1:
            raise InputError(f"--data: has {paths[0]} and {paths[1]}, both for {kind}; leave one")
        if paths:
            found[kind] = paths[0]
    return Sources(**found)
