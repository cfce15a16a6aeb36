"""Prompts from a file, continued into JSONL: written as they finish, gone on with after any interruption.

While the job runs, rows stand in `.NAME.partial` in the order in which they finish; when all are there, they become
NAME in the order of the prompts, at once. Each prompt has draws of its own, so that its row does not depend on what was
done before an interruption.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from data_prep.files import disk_error, replacing, sync
from megatron_nlg.config.errors import InputError
from megatron_nlg.generation.sampling import Sampling
from megatron_nlg.generation.sequence import Result


def read_prompts(path: Path) -> list[str]:
    """Prompts of a text file, one a line, or of JSONL, each line's `prompt`. Raises InputError that names the line."""
    if path.suffix not in (".txt", ".jsonl"):
        raise InputError(f"--file {path}: is neither .txt (a prompt a line) nor .jsonl (objects with `prompt`)")
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise InputError(f"--file {path}: {error.strerror}; name a .txt or .jsonl file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"--file {path}: is not UTF-8 at byte {error.start}; convert it") from None
    if not lines[-1]:
        lines.pop()
    lines = [line.removesuffix("\r") for line in lines]
    if path.suffix == ".jsonl":
        lines = [_prompt(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]
    if not lines:
        raise InputError(f"--file {path}: holds no prompt; write one a line")
    return lines


def _prompt(line: str, where: str) -> str:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where}: not valid JSON ({error})") from None
    if not isinstance(row, dict) or not isinstance(row.get("prompt"), str):
        raise InputError(f"{where}: an object with a text named `prompt` is expected")
    return str(row["prompt"])


@dataclass(frozen=True)
class Job:
    """A file of prompts and where their continuations go."""

    prompts: Sequence[str]
    sampling: Sampling
    """Prompt i, from 0, is drawn with seed + i."""
    out: Path
    step: int
    """Of the checkpoint."""

    @property
    def partial(self) -> Path:
        """Rows in the order in which they were finished."""
        return self.out.with_name(f".{self.out.name}.partial")

    def settings(self, index: int) -> Sampling:
        """Of one prompt."""
        return replace(self.sampling, seed=(self.sampling.seed + index) % 2**63)

    def row(self, result: Result) -> dict[str, Any]:
        """What is written of a result."""
        how = self.settings(result.index)
        row = {"index": result.index, "prompt": self.prompts[result.index], "text": result.text}
        row |= {"finish_reason": result.finish_reason, "tokens": result.tokens, "step": self.step}
        if result.logprobs is not None:
            row["logprobs"] = [asdict(entry) for entry in result.logprobs]
        return row | {"settings": asdict(how) | {"stop": list(how.stop)}}

    def finished(self) -> set[int]:
        """Prompts whose rows are written. Raises InputError for rows of another job, which are left as they are."""
        found = set()
        for path in (self.out, self.partial):
            for row in _rows(path):
                self._check(row, path)
                found.add(int(row["index"]))
        return found

    def _check(self, row: dict[str, Any], path: Path) -> None:
        index = row.get("index")
        differs = "an index that the file does not have"
        if isinstance(index, int) and 0 <= index < len(self.prompts):
            how = self.settings(index)
            settings = asdict(how) | {"stop": list(how.stop)}
            wanted = {"prompt": self.prompts[index], "step": self.step, "settings": settings}
            differs = ", ".join(f"another {key}" for key, value in wanted.items() if row.get(key) != value)
        if differs:
            raise InputError(f"{path}: holds rows of another job ({differs}); delete it, or choose another --out")

    def drop_torn_end(self) -> None:
        """Cut off what a killed job has begun to write."""
        if self.partial.is_file():
            whole = self.partial.read_bytes().rfind(b"\n") + 1
            os.truncate(self.partial, whole)

    def append(self, result: Result) -> None:
        """Add a row."""
        append_row(self.partial, self.row(result))

    def publish(self) -> None:
        """All rows in the order of the prompts, whole or not at all."""
        if not self.partial.is_file():
            return
        rows = {row["index"]: row for row in _rows(self.partial)}
        with replacing(self.out) as temporary:
            lines = (json.dumps(rows[index], ensure_ascii=False) + "\n" for index in sorted(rows))
            temporary.write_text("".join(lines), encoding="utf-8", newline="")
        self.partial.unlink()
        sync(self.out.parent)


def _rows(path: Path) -> list[dict[str, Any]]:
    """Whole rows of a file, [] where there is none."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    try:
        rows = [json.loads(line) for line in lines]
    except ValueError:
        rows = [None]
    if not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path}: is not JSONL of this command; choose another --out")
    return rows


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Add a line in one write. Raises MegatronNlgError when the disk is full, InputError when it may not be written."""
    data = (json.dumps(row, ensure_ascii=False) + "\n").encode()
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            while data:
                data = data[os.write(handle, data) :]
        finally:
            os.close(handle)
    except OSError as error:
        raise disk_error(error, path) from None
