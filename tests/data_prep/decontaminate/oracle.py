"""The paper's rule once more, by the book and on Python strings: what the vectorised one is held against."""

import re
from collections import Counter

_WORD = re.compile(r"\w+")


def word_spans(text: str) -> list[tuple[str, int, int]]:
    return [(match.group().casefold(), match.start(), match.end()) for match in _WORD.finditer(text)]


def task_ngrams(texts: list[str], size: int) -> set[tuple[str, ...]]:
    out = set()
    for text in texts:
        words = [word for word, _, _ in word_spans(text)]
        length = size if len(words) >= size else len(words)
        if length >= 8:
            out |= {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}
    return out


def occurrences(corpus: list[str], ngrams: set[tuple[str, ...]]) -> Counter[tuple[str, ...]]:
    found: Counter[tuple[str, ...]] = Counter()
    for text in corpus:
        words = [word for word, _, _ in word_spans(text)]
        for size in {len(gram) for gram in ngrams}:
            found.update(g for i in range(len(words) - size + 1) if (g := tuple(words[i : i + size])) in ngrams)
    return found


def clean(text: str, ngrams: set[tuple[str, ...]], characters: int, shortest: int, most: int) -> list[str] | None:
    """Pieces of a text; None when nothing is found. [] when too little, or too many, are left."""
    sizes = sorted({len(gram) for gram in ngrams}, reverse=True)
    left, rest, found = [], text, False
    while rest:
        spans = word_spans(rest)
        hit = next(
            (
                (spans[i][1], spans[i + size - 1][2])
                for i in range(len(spans))
                for size in sizes
                if i + size <= len(spans) and tuple(word for word, _, _ in spans[i : i + size]) in ngrams
            ),
            None,
        )
        if hit is None:
            left.append(rest)
            break
        found = True
        begin = hit[0] - characters
        while begin >= 0 and rest[begin] not in ".!?":
            begin -= 1
        left.append(rest[: max(0, begin + 1)])
        end = hit[1] + characters
        while end < len(rest) and rest[end] not in ".!?":
            end += 1
        rest = rest[end + 1 :]
    if not found:
        return None
    left = [piece.strip() for piece in left]
    left = [piece for piece in left if piece and len(piece) >= shortest]
    return left if len(left) <= most else []
