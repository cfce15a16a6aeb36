"""Near-duplicates of texts in memory: sign, band, verify, cluster. The stage does the same out of core."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_prep.dedup import candidates, exact
from data_prep.dedup.candidates import Candidates
from data_prep.dedup.clusters import Verdict, cluster, judge
from data_prep.dedup.shingles import (
    Shingling,
    Signing,
    band_keys,
    content_hashes,
    jaccard,
    shingles,
    signatures,
)
from data_prep.recipe import Dedup

_EMPTY = np.uint32(0xFFFFFFFF)
_BATCH = 512  # doubtful pairs whose sets a thread has in memory at once


def signing(rules: Dedup, seed: int) -> Signing:
    """How the recipe's documents are signed."""
    unit = rules.shingle_characters
    return Signing(
        Shingling("characters", unit) if unit else Shingling("words", rules.shingle_words), rules.num_perm, seed
    )


def has_units(signed: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Whether documents [documents, permutations] have a shingle; those without are never near anything; [documents].

    A single min-hash is all ones once in 2³² shingles; two of them are, never in practice.
    """
    some: NDArray[np.bool_] = (signed[:, 0] != _EMPTY) | (signed[:, -1] != _EMPTY)
    return some


def find_duplicates(texts: pa.Array | pa.ChunkedArray, rules: Dedup, seed: int = 1, threads: int = 1) -> Verdict:
    """Exact and near-duplicates of texts in order of priority."""
    first = exact.first_of_equals(content_hashes(texts, threads)) if rules.exact else np.arange(len(texts))
    near, similarity = np.arange(len(texts)), np.zeros(0)
    if rules.fuzzy:
        signed = signatures(texts, signing(rules, seed), threads)
        left = np.flatnonzero((first == np.arange(len(texts))) & has_units(signed))
        bands, rows = candidates.bands_and_rows(rules)
        keys = band_keys(signed, bands, rows, threads)[:, left]
        found = candidates.find(keys, left.astype(np.uint32), [signed], rules, threads)
        similarity = verify(texts, found, rules, seed, threads)
        near = cluster(found.pairs[similarity >= rules.threshold], len(texts), rules)
    return judge(first, near, similarity, rules)


def doubtful(found: Candidates, rules: Dedup) -> NDArray[np.bool_]:
    """Which candidates are compared by their sets; [candidates]."""
    _, sure = candidates.zone(rules.threshold, rules.num_perm)
    return found.agreement * rules.num_perm < sure - 0.5


def verify(
    texts: pa.Array | pa.ChunkedArray, found: Candidates, rules: Dedup, seed: int, threads: int
) -> NDArray[np.float64]:
    """Similarity of candidates: exact Jaccard in the doubtful zone, else the agreement; [candidates]."""
    similarity = found.agreement.copy()
    where = np.flatnonzero(doubtful(found, rules))
    whole = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts

    def compare(start: int) -> None:
        here = where[start : start + _BATCH]
        members, pairs = np.unique(found.pairs[here], return_inverse=True)
        sets = shingles(whole.take(pa.array(members)), signing(rules, seed).shingling)
        similarity[here] = jaccard(sets, pairs.reshape(-1, 2))

    with ThreadPoolExecutor(threads) as pool:  # the kernel and Arrow let other threads run
        list(pool.map(compare, range(0, len(where), _BATCH)))
    return similarity
