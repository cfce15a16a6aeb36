import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.dedup.clusters import cluster, judge
from data_prep.recipe import Dedup

PAIRS = st.sets(st.tuples(st.integers(0, 11), st.integers(0, 11)).filter(lambda pair: pair[0] < pair[1]))


def clusters_of(pairs: set[tuple[int, int]], kind: str) -> list[int]:
    return cluster(np.array(sorted(pairs), np.int64).reshape(-1, 2), 12, Dedup(clusters=kind)).tolist()  # type: ignore[arg-type]


@given(pairs=PAIRS)
def test_connected_is_everyone_that_pairs_lead_to(pairs: set[tuple[int, int]]) -> None:
    sets = [{i} for i in range(12)]
    for a, b in pairs:
        union = sets[a] | sets[b]
        for i in union:
            sets[i] = union
    assert clusters_of(pairs, "connected") == [min(s) for s in sets]


@given(pairs=PAIRS)
def test_every_member_is_paired_with_an_anchor(pairs: set[tuple[int, int]]) -> None:
    """Greedy by number of free pairs, the first of equals; checked against the same written in Python."""
    near = [{b if a == i else a for a, b in pairs if i in (a, b)} for i in range(12)]
    label: dict[int, int] = {}
    while free := set(range(12)) - label.keys():
        anchor = max(free, key=lambda i: (len(near[i] & free), -i))
        label |= dict.fromkeys({anchor} | near[anchor] & free, anchor)
    first = {anchor: min(i for i in label if label[i] == anchor) for anchor in set(label.values())}
    assert clusters_of(pairs, "anchored") == [first[label[i]] for i in range(12)]


def test_a_chain_is_one_cluster_only_when_connected() -> None:
    chain = {(i, i + 1) for i in range(11)}
    assert clusters_of(chain, "connected") == [0] * 12
    assert len(set(clusters_of(chain, "anchored"))) == 4


def test_the_first_survives_and_exact_duplicates_join() -> None:
    exact = np.array([0, 1, 0, 3, 1, 5])  # 2 repeats 0, 4 repeats 1
    near = np.array([0, 1, 2, 1, 4, 5])  # 3 is near 1
    verdict = judge(exact, near, np.array([0.3, 0.85]), Dedup())
    assert verdict.cluster.tolist() == [0, 1, 0, 1, 1, 5]
    assert verdict.keep.tolist() == [True, True, False, False, False, True]
    assert verdict.summary["sizes"] == {"2": 1, "3": 1}
    assert (verdict.summary["candidate_pairs"], verdict.summary["near_duplicate_pairs"]) == (2, 1)
    assert sum(verdict.summary["similarity"]) == 2


@pytest.mark.parametrize(("limit", "kept"), [(2, [0, 1, 2]), (3, [0]), (None, [0])])
def test_a_cluster_over_the_limit_is_told_of_and_kept(limit: int | None, kept: list[int]) -> None:
    exact, near = np.array([0, 1, 2, 1]), np.array([0, 0, 0, 3])
    verdict = judge(exact, near, np.zeros(0), Dedup(max_cluster=limit))
    assert np.flatnonzero(verdict.keep).tolist() == kept
    assert verdict.summary["over_max_cluster"] == ([{"first": 0, "documents": 3}] if limit == 2 else [])
    assert verdict.summary["largest_cluster"] == 4


def test_no_documents() -> None:
    nothing = np.zeros(0, np.int64)
    assert judge(nothing, nothing, np.zeros(0), Dedup()).summary["largest_cluster"] == 0
