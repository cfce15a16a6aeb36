"""What can be wrong with a tree of switches."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.config.switches import expand_switches, nodes_of, tree_problems, unknown_switches


def messages(**switches: Sequence[str]) -> list[str]:
    return [str(problem) for problem in tree_problems({name: tuple(below) for name, below in switches.items()})]


def test_a_tree_has_none_and_its_nodes_are_what_is_no_switch() -> None:
    switches = expand_switches({"s1": ["n[1-2]"], "s2": ["n[3-4]", "n7"], "top": ["s[1-2]"]})
    assert list(tree_problems(switches)) == list(unknown_switches(switches)) == []
    assert nodes_of(switches) == ["n1", "n2", "n3", "n4", "n7"]


def test_all_of_them_are_listed_at_once() -> None:
    found = messages(a=["n1", "n1"], b=["n2", "c"], c=["b"], d=["n2"], e=["f"], f=[])
    assert len(found) == 5
    assert "n1: this node hangs on a twice" in found[0]
    assert "n2: this node hangs on b and on d" in found[1]
    assert "hangs on itself: b on c on b" in found[2] or "c on b on c" in found[2]
    assert [line.partition(":")[0] for line in found[3:]] == ["e", "f"]


def test_a_misspelt_switch_is_seen_beside_others() -> None:
    problem = next(iter(unknown_switches({"s1": ("n1",), "top": ("s1", "s2")})))
    assert "s2 hangs beside switches such as s1" in str(problem)


NAMES = st.sampled_from("abcdef")


@given(st.dictionaries(NAMES, st.lists(NAMES | st.sampled_from(["n1", "n2"]), max_size=4).map(tuple), max_size=6))
def test_what_passes_is_a_tree(switches: dict[str, tuple[str, ...]]) -> None:
    if list(tree_problems(switches)):
        return
    for name in switches:  # every way up ends, at one root
        seen = [name]
        while above := [each for each, below in switches.items() if seen[-1] in below]:
            assert len(above) == 1
            seen.append(above[0])
            assert len(seen) <= len(switches)
