"""Work on all ranks: texts scored or continued unit by unit, each a row that is never made twice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from megatron_nlg.generation.ledger import Ledger
from megatron_nlg.generation.progress import progress

if TYPE_CHECKING:
    from megatron_nlg.generation.generator import Generator
    from megatron_nlg.generation.sampling import Sampling
    from megatron_nlg.generation.scoring import Scorer
    from megatron_nlg.parallel.supervisor import Terminal

CHUNK = 2048
"""Units that are tokenized and sorted together; rows are written as they come."""


class Encoder(Protocol):
    """Of a tokenizer, what is needed here."""

    eod: int

    def encode(self, text: str) -> list[int]:
        """Token ids of a text."""
        ...


@dataclass(frozen=True)
class Unit:
    """Texts that are scored together: each of `requests` is what is given and what is scored after it."""

    key: str
    requests: tuple[tuple[str, str], ...]
    about: dict[str, Any] = field(default_factory=dict)
    """Goes into the row, for its reader."""


@dataclass(frozen=True)
class Prompt:
    """Text that is continued by draws of its own."""

    key: str
    text: str
    seed: int


Work = TypeVar("Work", Unit, Prompt)


def tokens_of(tokenizer: Encoder, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Both as the tokens of the joined text, cut where the context's own tokens end; nothing given is a new document.

    As lm-evaluation-harness does: spaces at the end of the context belong to the continuation.
    """
    if not context:
        return [tokenizer.eod], tokenizer.encode(continuation)
    kept = context.rstrip(" ")
    if kept:
        context, continuation = kept, context[len(kept) :] + continuation
    given = tokenizer.encode(context)
    whole = tokenizer.encode(context + continuation)
    return whole[: len(given)], whole[len(given) :]


def identity_of(work: Sequence[Unit] | Sequence[Prompt]) -> str:
    """Hash of what the model is given: rows of other texts are another job's."""
    digest = hashlib.sha256()
    for piece in work:
        texts = (
            [t for pair in piece.requests for t in pair] if isinstance(piece, Unit) else [piece.text, str(piece.seed)]
        )
        digest.update("\0".join((piece.key, *texts, "\n")).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]


def score_units(
    units: Sequence[Unit], ledger: Ledger, generator: Generator, terminal: Terminal, title: str = "scoring"
) -> None:
    """Score what `ledger` does not have yet. Its rows have `logprobs` and `tokens` (how many), an entry a request."""
    from megatron_nlg.generation.scoring import Scorer

    left = _begin(units, ledger, generator)
    scorer = Scorer(generator)
    with progress(title, len(units), len(units) - len(left), generator.context, terminal) as advance:
        for start in range(0, len(left), CHUNK):
            for row in _scored(left[start : start + CHUNK], scorer, generator.tokenizer):
                if generator.context.is_main:
                    ledger.append(row)
                advance()
    _end(units, ledger, generator)


def _scored(units: Sequence[Unit], scorer: Scorer, tokenizer: Encoder) -> Iterator[dict[str, Any]]:
    """Rows as they are finished: a unit is when all its texts are."""
    from megatron_nlg.generation.scoring import Request

    owners = [(unit, place) for unit in units for place in range(len(unit.requests))]
    requests = [Request(*tokens_of(tokenizer, *unit.requests[place])) for unit, place in owners]
    found: dict[str, dict[int, tuple[float, int]]] = {}
    for score in scorer.score(requests):
        unit, place = owners[score.index]
        known = found.setdefault(unit.key, {})
        known[place] = round(score.total, 6), len(score.logprobs)
        if len(known) == len(unit.requests):
            totals, lengths = zip(*(known[i] for i in range(len(known))), strict=True)
            yield {"key": unit.key} | unit.about | {"logprobs": totals, "tokens": lengths}
            del found[unit.key]


def continue_prompts(
    prompts: Sequence[Prompt],
    sampling: Sampling,
    batch_size: int,
    ledger: Ledger,
    generator: Generator,
    terminal: Terminal,
) -> None:
    """Continue what `ledger` does not have yet. Its rows have `prompt`, `text` and `seed`."""
    left = _begin(prompts, ledger, generator)
    with progress("sampling", len(prompts), len(prompts) - len(left), generator.context, terminal) as advance:
        tokens = [generator.encode(prompt.text) for prompt in left]
        settings = [replace(sampling, seed=prompt.seed) for prompt in left]
        for result in generator.generate(tokens, settings, batch_size, slide=True):
            if generator.context.is_main:
                prompt = left[result.index]
                ledger.append({"key": prompt.key, "prompt": prompt.text, "text": result.text, "seed": prompt.seed})
            advance()
    _end(prompts, ledger, generator)


def _begin(work: Sequence[Work], ledger: Ledger, generator: Generator) -> list[Work]:
    """What is left to do, the same on all ranks; the ledger is ready for more."""
    finished = ledger.keys()
    generator.context.barrier()  # all have read before one writes
    if generator.context.is_main:
        ledger.open()
    return [piece for piece in work if piece.key not in finished]


def _end(work: Sequence[Unit] | Sequence[Prompt], ledger: Ledger, generator: Generator) -> None:
    if generator.context.is_main:
        ledger.publish([piece.key for piece in work])
    generator.context.barrier()
