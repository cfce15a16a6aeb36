import random
from itertools import combinations

import numpy as np
import pytest
from datasketch import MinHash, MinHashLSH
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.dedup.fuzzy import (
    Components,
    band_keys,
    bands_and_rows,
    buckets,
    connect,
    jaccard,
    shingles,
    signer,
)
from data_prep.recipe import Dedup
from tests.data_prep.material import sentence


def word_grams(text: str, n: int) -> set[tuple[str, ...]]:
    words = text.lower().split()
    return {tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1))} if words else set()


@given(words=st.lists(st.sampled_from("abcd"), max_size=40), n=st.integers(1, 6))
def test_shingles_stand_for_the_word_grams_one_to_one(words: list[str], n: int) -> None:
    text = " ".join(words)
    assert len(shingles(text, n)) == len(word_grams(text, n))
    assert np.array_equal(shingles(text.upper() + " !", n), shingles(text, n))


@given(a=st.lists(st.sampled_from("abc"), max_size=30), b=st.lists(st.sampled_from("abc"), max_size=30))
def test_jaccard_equals_that_of_the_sets(a: list[str], b: list[str]) -> None:
    first, second = word_grams(" ".join(a), 3), word_grams(" ".join(b), 3)
    expected = len(first & second) / len(first | second) if first & second else 0
    assert jaccard(shingles(" ".join(a), 3), shingles(" ".join(b), 3)) == expected


def test_signature_is_datasketchs_also_beyond_one_batch() -> None:
    grams = shingles(sentence(0, 40_000), 5)
    assert len(grams) > 2 * 16384
    oracle = MinHash(num_perm=64, seed=3, hashfunc=int)
    oracle.update_batch([int(g) >> 32 for g in grams])
    ours = signer(Dedup(num_perm=64, bands=4, rows=16), seed=3)
    assert np.array_equal(ours(grams), oracle.hashvalues)
    assert np.array_equal(ours(grams), oracle.hashvalues)  # no state is left behind


def test_candidates_are_datasketchs() -> None:
    rules = Dedup(num_perm=32, bands=8, rows=4)
    texts = variants(40, seed=1)
    sign = signer(rules, seed=1)
    signatures = np.array([sign(shingles(text, 3)) for text in texts])
    index = MinHashLSH(num_perm=32, params=(8, 4))
    for i, row in enumerate(signatures):
        index.insert(i, MinHash(num_perm=32, seed=1, hashvalues=row, scheme="affine32"))
    oracle = {
        (i, j)
        for i, row in enumerate(signatures)
        for j in index.query(MinHash(num_perm=32, seed=1, hashvalues=row, scheme="affine32"))
        if i < j
    }
    groups = buckets(band_keys(signatures, 8, 4), np.arange(len(texts)))
    assert {pair for group in groups for pair in combinations(sorted(group.tolist()), 2)} == oracle
    assert len(oracle) > 20


def variants(count: int, seed: int) -> list[str]:
    """Texts of which many are edits of an earlier one, from slight to heavy."""
    draw = random.Random(seed)
    texts = [sentence(seed, 60)]
    while len(texts) < count:
        words = draw.choice(texts).split()
        for _ in range(draw.randrange(12)):
            words[draw.randrange(len(words))] = f"new{draw.random()}"
        texts.append(" ".join(words) if draw.random() < 0.8 else sentence(draw.randrange(1 << 30), 60))
    return texts


@pytest.mark.parametrize("seed", range(5))
def test_components_equal_brute_force(seed: int) -> None:
    """One row a band finds every pair with any similarity, so what is left to test is verification and union."""
    texts = variants(60, seed)
    grams = [shingles(text, 5) for text in texts]
    sign = signer(Dedup(num_perm=256, bands=256, rows=1), seed=1)
    keys = band_keys(np.array([sign(g) for g in grams]), 256, 1)
    components = Components(len(texts))
    compared = connect(buckets(keys, np.arange(len(texts))), grams.__getitem__, 0.5, components)
    expected = list(range(len(texts)))
    changed = True
    while changed:  # labels sink to the smallest of their component
        changed = False
        for a, b in combinations(range(len(texts)), 2):
            if jaccard(grams[a], grams[b]) >= 0.5 and expected[a] != expected[b]:
                expected[a] = expected[b] = min(expected[a], expected[b])
                changed = True
    assert [components.find(i) for i in range(len(texts))] == expected
    assert 0 < compared <= len(texts) * (len(texts) - 1) // 2
    assert 1 < len(set(expected)) < len(texts)


def test_recall_of_the_papers_bands() -> None:
    """P(candidate) = 1 − (1 − J^13)^20 at 260 min-hashes: near-certain at J = 0.95, near-never at J = 0.5."""
    rules = Dedup()
    sign = signer(rules, seed=1)
    found = {0.95: 0, 0.5: 0}
    for wanted in found:
        for trial in range(40):
            base = sentence(trial, 400).split()
            kept = round(400 * 2 * wanted / (1 + wanted))
            pair = [" ".join(base), " ".join(base[:kept] + sentence(1000 + trial, 400 - kept).split())]
            keys = band_keys(np.array([sign(shingles(text, 5)) for text in pair]), *bands_and_rows(rules))
            found[wanted] += bool((keys[0] == keys[1]).any())
    assert found[0.95] >= 39
    assert found[0.5] <= 2


def test_bands_of_the_recipe_or_datasketchs_optimum() -> None:
    assert bands_and_rows(Dedup()) == (20, 13)
    assert bands_and_rows(Dedup(num_perm=128, bands=None, rows=None)) == (9, 13)


@settings(max_examples=50)
@given(pairs=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9))))
def test_components_are_named_by_their_smallest_member(pairs: list[tuple[int, int]]) -> None:
    components = Components(10)
    sets = [{i} for i in range(10)]
    for a, b in pairs:
        components.join(a, b)
        union = sets[a] | sets[b]
        for i in union:
            sets[i] = union
    assert [components.find(i) for i in range(10)] == [min(s) for s in sets]
