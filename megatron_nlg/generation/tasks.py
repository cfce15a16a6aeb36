"""What `megatron-nlg generate` does with a model: every function runs on all ranks, and rank 0 talks and writes."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO

from megatron_nlg.generation.generator import Generator
from megatron_nlg.generation.jobs import Job
from megatron_nlg.generation.progress import progress
from megatron_nlg.generation.rows import append_row
from megatron_nlg.generation.sampling import Sampling
from megatron_nlg.generation.sequence import Result
from megatron_nlg.parallel.supervisor import Terminal

POLL_SECONDS = 0.05


# ---- prompts of the command line -----------------------------------------------------------------------------------


def print_all(
    prompts: Sequence[str],
    sampling: Sampling,
    batch_size: int,
    samples: Path | None,
    generator: Generator,
    terminal: Terminal,
) -> None:
    """Print each prompt with its continuation, in order, as soon as it can be; `samples` gets them as JSONL."""
    tokens = [generator.encode(prompt) for prompt in prompts]
    for result in _in_order(generator.generate(tokens, [sampling] * len(prompts), batch_size, slide=True)):
        if not generator.context.is_main:
            continue
        prompt = prompts[result.index]
        print(f"{prompt}{result.text}", file=terminal.out, flush=True)
        if samples:
            row = {"prompt": prompt, "text": result.text, "step": generator.progress.step}
            append_row(samples, row | {"settings": _told(sampling)})


def _told(sampling: Sampling) -> dict[str, object]:
    """Settings that are not left at what changes nothing."""
    plain = Sampling()
    always = ("temperature", "top_p", "max_tokens", "seed")
    return {name: value for name, value in asdict(sampling).items() if name in always or value != getattr(plain, name)}


def _in_order(results: Iterator[Result]) -> Iterator[Result]:
    waiting: dict[int, Result] = {}
    following = 0
    for result in results:
        waiting[result.index] = result
        while following in waiting:
            yield waiting.pop(following)
            following += 1


# ---- a file --------------------------------------------------------------------------------------------------------


def write_all(
    prompts: Sequence[str], sampling: Sampling, batch_size: int, out: Path, generator: Generator, terminal: Terminal
) -> None:
    """Continue what `out` does not have yet."""
    run_job(Job(prompts, sampling, out, generator.progress.step), batch_size, generator, terminal)


def run_job(job: Job, batch_size: int, generator: Generator, terminal: Terminal) -> None:
    """Do what is left of a job, with progress."""
    finished, context = job.finished(), generator.context
    context.barrier()  # all have read before one writes
    left = [index for index in range(len(job.prompts)) if index not in finished]
    with progress("generating", len(job.prompts), len(finished), context, terminal) as advance:
        if context.is_main:
            job.drop_torn_end()
        tokens = [generator.encode(job.prompts[index]) for index in left]
        for result in generator.generate(tokens, [job.settings(index) for index in left], batch_size, slide=True):
            if context.is_main:
                job.append(job.row(replace(result, index=left[result.index])))
            advance()
    if context.is_main:
        job.publish()
        again = f", {len(finished)} of them before" if finished else ""
        print(f"{job.out}: {len(job.prompts)} prompts continued{again}", file=terminal.err, flush=True)


# ---- a conversation ------------------------------------------------------------------------------------------------


@contextmanager
def keyboard(spool: Path) -> Iterator[Path]:
    """Copy standard input, line by line as JSON, to a file that all ranks read; its end is `null`.

    Ranks have no standard input of their own, and one that waited for another in a collective while the user thinks
    would run into the collective's time-out.
    """
    spool.touch()

    def copy() -> None:
        rest = b""
        with spool.open("a", encoding="utf-8") as file:
            while data := os.read(sys.stdin.fileno(), 65536):
                *lines, rest = (rest + data).split(b"\n")
                file.writelines(json.dumps(line.decode("utf-8", "replace")) + "\n" for line in lines)
                file.flush()
            file.writelines(json.dumps(line) + "\n" for line in ([rest.decode("utf-8", "replace")] if rest else []))
            file.write("null\n")

    threading.Thread(target=copy, daemon=True).start()
    yield spool


def converse(spool: Path, sampling: Sampling, generator: Generator, terminal: Terminal) -> None:
    """Continue prompt after prompt, each token shown as it comes, until the input ends."""
    with spool.open(encoding="utf-8") as lines:
        while True:
            if generator.context.is_main:
                print("> ", end="", file=terminal.out, flush=True)
            prompt = _next_line(lines)
            if prompt is None:
                return
            for piece in generator.stream([generator.encode(prompt)], [sampling], slide=True):
                if generator.context.is_main:
                    print(piece.text, end="\n" if piece.result else "", file=terminal.out, flush=True)


def _next_line(lines: IO[str]) -> str | None:
    """Wait for a line; None at the end of the input."""
    text = ""
    while not text.endswith("\n"):
        text += lines.readline()
        if not text.endswith("\n"):
            time.sleep(POLL_SECONDS)
    line: str | None = json.loads(text)
    return line
