from itertools import combinations

import pyarrow as pa
import pytest

from data_prep.dedup import fuzzy
from data_prep.dedup.fuzzy import find_duplicates
from data_prep.recipe import Dedup
from tests.data_prep.material import sentence, variants


def grams(text: str, n: int = 5) -> set[tuple[str, ...]]:
    words = text.lower().split()
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def true_jaccard(a: str, b: str) -> float:
    return len(grams(a) & grams(b)) / len(grams(a) | grams(b))


@pytest.mark.parametrize("seed", range(3))
def test_clusters_equal_brute_force(seed: int) -> None:
    """One row a band finds every pair with any similarity, so what is left to test is verification and clusters."""
    texts = variants(60, seed)
    rules = Dedup(num_perm=256, bands=256, rows=1, threshold=0.5, clusters="connected", exact=False)
    verdict = find_duplicates(pa.array(texts), rules)
    expected = list(range(len(texts)))
    changed = True
    while changed:  # labels sink to the smallest of their component
        changed = False
        for a, b in combinations(range(len(texts)), 2):
            if true_jaccard(texts[a], texts[b]) >= 0.5 and expected[a] != expected[b]:
                expected[a] = expected[b] = min(expected[a], expected[b])
                changed = True
    assert verdict.cluster.tolist() == expected
    assert 1 < len(set(expected)) < len(texts)


def test_anchored_clusters_hold_nothing_far() -> None:
    """Jaccard distance is a metric: members that are within 1 − t of an anchor are within 2·(1 − t) of each other."""
    texts = variants(300, seed=7)
    verdict = find_duplicates(pa.array(texts), Dedup(threshold=0.7))
    pairs = [(a, b) for a, b in combinations(range(300), 2) if verdict.cluster[a] == verdict.cluster[b]]
    assert len(pairs) > 50
    assert min(true_jaccard(texts[a], texts[b]) for a, b in pairs) >= 0.4


def test_recall_and_precision_of_pairs_around_the_threshold() -> None:
    def edited(seed: int, similarity: float) -> list[str]:
        base = sentence(seed, 300).split()
        kept = round(300 * 2 * similarity / (1 + similarity))
        return [" ".join(base), " ".join(base[:kept] + sentence(9000 + seed, 300 - kept).split())]

    texts = [text for i in range(400) for text in edited(i, 0.6 + 0.001 * i)]
    verdict = find_duplicates(pa.array(texts), Dedup())
    together = [bool(verdict.cluster[i] == verdict.cluster[i + 1]) for i in range(0, 800, 2)]
    similar = [true_jaccard(texts[i], texts[i + 1]) >= 0.8 for i in range(0, 800, 2)]
    assert sum(similar) > 150
    assert sum(t and s for t, s in zip(together, similar, strict=True)) >= 0.96 * sum(similar)
    assert sum(t and s for t, s in zip(together, similar, strict=True)) >= 0.97 * sum(together)


def test_threads_and_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = pa.array([*variants(200, seed=3), "", "!!!", "???"])
    one = find_duplicates(texts, Dedup(threshold=0.6))
    monkeypatch.setattr(fuzzy, "_BATCH", 7)
    chunks = pa.chunked_array([texts.slice(0, 50), texts.slice(50)])
    two = find_duplicates(chunks, Dedup(threshold=0.6), threads=3)
    assert one.cluster.tolist() == two.cluster.tolist()
    assert one.summary == two.summary
    assert one.cluster[-3:].tolist() == [200, 201, 202]  # no words: never near anything


def test_unspaced_scripts_and_characters() -> None:
    base = "自然言語処理は人間が日常的に使っている自然言語をコンピュータに処理させる一連の技術である"
    texts = pa.array([base * 3, base * 3 + "。終", "全く別の文章がここにあり内容は関係がない" * 5])
    assert find_duplicates(texts, Dedup(exact=False)).cluster.tolist() == [0, 0, 2]
    assert find_duplicates(texts, Dedup(shingle_characters=8)).cluster.tolist() == [0, 0, 2]
