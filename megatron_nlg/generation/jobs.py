"""Prompts from a file, and the job to continue them: each has draws of its own, so that rows do not depend on order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from megatron_nlg.config.errors import InputError
from megatron_nlg.generation.rows import RowFile
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
class Job(RowFile):
    """A file of prompts and where their continuations go."""

    prompts: Sequence[str]
    sampling: Sampling
    """Prompt i, from 0, is drawn with seed + i."""
    out: Path
    step: int
    """Of the checkpoint."""

    def settings(self, index: int) -> Sampling:
        """Of one prompt."""
        return replace(self.sampling, seed=(self.sampling.seed + index) % 2**63)

    def made_of(self, index: int) -> dict[str, Any] | None:
        """Prompt, checkpoint and settings."""
        if not 0 <= index < len(self.prompts):
            return None
        how = self.settings(index)
        return {"prompt": self.prompts[index], "step": self.step, "settings": asdict(how) | {"stop": list(how.stop)}}

    def row(self, result: Result) -> dict[str, Any]:
        """What is written of a result."""
        made_of = self.made_of(result.index)
        assert made_of
        row = {"index": result.index, "prompt": made_of["prompt"], "text": result.text}
        row |= {"finish_reason": result.finish_reason, "tokens": result.tokens, "step": self.step}
        if result.logprobs is not None:
            row["logprobs"] = [asdict(entry) for entry in result.logprobs]
        return row | {"settings": made_of["settings"]}
