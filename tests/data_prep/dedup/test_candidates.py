from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest
from datasketch import MinHash, MinHashLSH

from data_prep.dedup.candidates import _KNOWN, bands_and_rows, find, zone
from data_prep.dedup.shingles import Shingling, Signing, band_keys, signatures
from data_prep.recipe import Dedup
from tests.data_prep.material import sentence, variants


def test_candidates_are_datasketchs() -> None:
    rules = Dedup(num_perm=32, bands=8, rows=4, threshold=0.01)
    signed = signatures(pa.array(variants(40, seed=1)), Signing(Shingling(size=3), 32))
    index = MinHashLSH(num_perm=32, params=(8, 4))
    theirs = [MinHash(num_perm=32, seed=1, hashvalues=row, scheme="affine32") for row in signed]
    for i, minhash in enumerate(theirs):
        index.insert(i, minhash)
    oracle = {(i, j) for i, minhash in enumerate(theirs) for j in index.query(minhash) if i < j}
    found = find(band_keys(signed, 8, 4), np.arange(len(signed)), [signed[:13], signed[13:14], signed[14:]], rules)
    assert {tuple(pair) for pair in found.pairs.tolist()} == oracle
    assert len(found.pairs) == len(oracle) > 20
    for (i, j), agreement in zip(found.pairs, found.agreement, strict=True):
        assert agreement == theirs[i].jaccard(theirs[j])


@pytest.mark.parametrize("threads", [1, 3])
def test_a_template_in_every_bucket_is_linear(threads: int) -> None:
    """20,000 equal signatures: each is paired with the first, not with all."""
    signed = np.tile(signatures(pa.array([sentence(1)]), Signing()), (20_000, 1))
    found = find(band_keys(signed, 16, 8), np.arange(20_000), [signed], Dedup(), threads)
    assert found.pairs.tolist() == [[0, i] for i in range(1, 20_000)]


def test_pairs_of_a_small_group_are_all_looked_at() -> None:
    signed = np.tile(signatures(pa.array([sentence(1)]), Signing()), (64, 1))
    found = find(band_keys(signed, 16, 8), np.arange(64), [signed], Dedup())
    assert [tuple(pair) for pair in found.pairs.tolist()] == list(combinations(range(64), 2))


def test_the_zone_is_three_standard_errors() -> None:
    assert zone(0.8, 128) == (89, 116)  # 0.8 ∓ 3·√(0.8·0.2/128) = 0.694, 0.906
    assert zone(1.0, 128) == (128, 129)  # equal signatures do not prove equal sets
    assert zone(0.1, 8) == (1, 4)


def test_bands_of_the_recipe_or_datasketchs_optimum(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bands_and_rows(Dedup(num_perm=260, bands=20, rows=13)) == (20, 13)
    assert bands_and_rows(Dedup()) == (16, 8)
    assert bands_and_rows(Dedup(threshold=0.5)) == (26, 3)
    monkeypatch.setattr("data_prep.dedup.candidates._KNOWN", {})
    for (threshold, permutations), expected in _KNOWN.items():
        assert bands_and_rows(Dedup(threshold=threshold, num_perm=permutations)) == expected
