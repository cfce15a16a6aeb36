"""Which examples are asked, which are shots, which set a threshold: disjoint, balanced, the same for a seed."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from megatron_nlg.config.errors import InputError
from megatron_nlg.evaluation.hans.reader import Example

COMMON = frozenset(
    ("the", "a", "an", "and", "or", "if", "that", "who", "by", "to", "in", "of", "on", "at", "was", "were", "did")
)
TRIES = 60


@dataclass(frozen=True)
class Draw:
    """Parts of a file that have no example in common."""

    asked: list[Example]
    held_out: list[Example]
    """Set the threshold."""
    shots: list[Example]
    controls: list[Example]
    """Premises of `asked` with hypotheses of others that share few words: none follows, and no overlap says so."""


def draw(examples: Sequence[Example], limit: int | None, held_out: int, shots: int, controls: int, seed: int) -> Draw:
    """Draw the parts; `limit` None asks all that are left. Raises InputError when the file is too small."""
    order = balanced(examples, seed)
    need = held_out + shots + (limit or 1)
    if need > len(order):
        raise InputError(
            f"--data: has {len(order)} examples, and {need} are needed ({held_out} --held-out, {shots} for shots, "
            f"{limit or 1} asked); lower --limit or --held-out"
        )
    rest = order[held_out + shots :]
    asked = rest[:limit] if limit else _as_in(examples, rest)
    mismatched = [mismatch(e, asked, seed) for e in balanced(asked, seed + 1)[:controls]]
    return Draw(asked, order[:held_out], order[held_out : held_out + shots], mismatched)


def _as_in(examples: Sequence[Example], some: Sequence[Example]) -> list[Example]:
    names = {example.name for example in some}
    return [example for example in examples if example.name in names]


def balanced(examples: Sequence[Example], seed: int) -> list[Example]:
    """All, in an order whose every beginning has heuristics, labels and subcases as evenly as the file allows."""
    cells: dict[tuple[str, bool], dict[str, list[Example]]] = defaultdict(lambda: defaultdict(list))
    for example in examples:
        cells[example.heuristic, example.entailed][example.subcase].append(example)
    chance = random.Random(seed)
    queues = []
    for key in sorted(cells):
        subcases = [cells[key][subcase] for subcase in sorted(cells[key])]
        for subcase in subcases:
            chance.shuffle(subcase)
        chance.shuffle(subcases)
        queues.append(_round_robin(subcases))
    # Labels take turns, so that an even number of examples has each half the time.
    queues.sort(key=lambda queue: queue[0].heuristic)
    return _round_robin(queues)


def _round_robin(queues: Sequence[Sequence[Example]]) -> list[Example]:
    longest = max(map(len, queues), default=0)
    return [queue[place] for place in range(longest) for queue in queues if place < len(queue)]


def mismatch(example: Example, others: Sequence[Example], seed: int) -> Example:
    """The premise with the hypothesis of another example that shares the fewest words with it, of some."""
    chance = random.Random(f"{seed} {example.name}")
    have = words(example.premise)
    tried = (chance.choice(others) for _ in range(TRIES))
    other = min(tried, key=lambda e: (len(words(e.hypothesis) & have), e.name == example.name))
    return replace(example, name=f"{example.name}+{other.name}", hypothesis=other.hypothesis, entailed=False)


def words(text: str) -> set[str]:
    """Words of a sentence that say something."""
    return set(re.findall(r"[a-z]+", text.lower())) - COMMON
