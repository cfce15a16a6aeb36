"""Who is measured against whom."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.training.preflight.pairs import circle, rounds

LEAVES = st.lists(st.integers(0, 7), min_size=1, max_size=6).map(
    lambda sizes: [[f"n{leaf}.{i}" for i in range(size)] for leaf, size in enumerate(sizes)]
)


@given(st.integers(0, 20))
def test_the_circle_has_every_pair_once_in_the_fewest_rounds(count: int) -> None:
    members = [str(i) for i in range(count)]
    found = circle(members)
    pairs = [frozenset(pair) for turn in found for pair in turn]
    assert sorted(map(sorted, pairs)) == sorted(map(sorted, combinations(members, 2)))
    assert len(found) == (0 if count < 2 else count - 1 + count % 2)


@given(LEAVES, st.integers(0, 5))
def test_nobody_is_twice_in_a_round_and_pairs_differ(leaves: list[list[str]], most: int) -> None:
    leaf = {node: i for i, nodes in enumerate(leaves) for node in nodes}
    found = rounds(leaves, most)
    for turn in found:
        nodes = [node for pair in turn for node in pair]
        assert turn and len(nodes) == len(set(nodes))
    inside = [turn for turn in found if leaf[turn[0][0]] == leaf[turn[0][1]]]
    across = found[len(inside) :]
    assert all(leaf[a] == leaf[b] for turn in inside for a, b in turn)
    assert all(leaf[a] != leaf[b] for turn in across for a, b in turn)
    assert len(inside) <= most and len(across) <= most


def test_half_of_the_nodes_meet_the_other_half_at_a_time() -> None:
    leaves = [[f"a{i}" for i in range(4)], [f"b{i}" for i in range(4)]]
    assert [len(turn) for turn in rounds(leaves, 2)] == [4, 4, 4, 4]
