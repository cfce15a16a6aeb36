"""Answers of a model to evaluation requests, written as they come: nothing finished is computed again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from megatron_nlg.config.errors import InputError
from megatron_nlg.generation.rows import append_row


def key_of(checkpoint: str, task: str, kind: str, arguments: Sequence[Any]) -> str:
    """What an answer depends on."""
    text = json.dumps([checkpoint, task, kind, *arguments], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Journal:
    """A JSONL file of answers by key.

    Answers of other checkpoints, tasks and settings may stand in the same file and are left alone.
    """

    def __init__(self, path: Path):
        self.path = path
        self.answers: dict[str, Any] = {}
        if not path.exists():
            return
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):  # what a killed job has begun to write
            os.truncate(path, whole)
        for number, line in enumerate(data[:whole].split(b"\n")[:-1], 1):
            try:
                row = json.loads(line)
                self.answers[row["key"]] = row["answer"]
            except (ValueError, KeyError, TypeError):
                raise InputError(
                    f"{path}, line {number}: is no answer of an evaluation; delete the line, or choose another --out"
                ) from None

    def add(self, key: str, answer: Any, **about: Any) -> None:
        """Write an answer, with what a reader of the file may want to know."""
        append_row(self.path, {"key": key, **about, "answer": answer})
        self.answers[key] = answer
