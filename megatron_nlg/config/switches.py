"""A tree of switches told as switch -> what hangs on it, and everything that can be wrong with one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from megatron_nlg.config.errors import Problem
from megatron_nlg.config.hostlist import expand

Switches = dict[str, tuple[str, ...]]


def expand_switches(switches: Mapping[str, Sequence[str]]) -> Switches:
    """With every host list written out. Raises InputError."""
    return {name: tuple(each for item in below for each in expand(item)) for name, below in switches.items()}


def parents_of(switches: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Node or switch -> the switches that it hangs on, as often as they name it: one each in a tree."""
    parents: dict[str, list[str]] = {}
    for name, below in switches.items():
        for each in below:
            parents.setdefault(each, []).append(name)
    return parents


def nodes_of(switches: Mapping[str, Sequence[str]]) -> list[str]:
    """What hangs on switches and is none, in the order of the tree's leaves."""
    return list(dict.fromkeys(each for below in switches.values() for each in below if each not in switches))


def tree_problems(switches: Mapping[str, Sequence[str]]) -> Iterator[Problem]:
    """What keeps it from being a tree, or trees, with nodes below every switch. The keys are switches or nodes."""
    parents = parents_of(switches)
    for each, above in parents.items():
        kind = "switch" if each in switches else "node"
        if len(above) > 1:
            where = f"{above[0]} twice" if len(set(above)) == 1 else " and on ".join(dict.fromkeys(above))
            yield Problem(each, f"this {kind} hangs on {where}", "a tree has one way up: leave it with one switch")
    cycles = list(_cycles(switches, parents))
    for cycle in cycles:
        yield Problem(cycle[0], f"hangs on itself: {' on '.join(cycle)}", "the way up must end at a switch on none")
    inside = {each for cycle in cycles for each in cycle}
    for name in _without_nodes(switches):
        if name not in inside:
            yield Problem(name, "no node hangs on this switch or on those below it", "name its nodes, or leave it out")


def _cycles(switches: Mapping[str, Sequence[str]], parents: Mapping[str, Sequence[str]]) -> Iterator[list[str]]:
    """Each ring of switches once, from a switch up to itself."""
    done: set[str] = set()
    for start in switches:
        path: dict[str, int] = {}
        at: str | None = start
        while at is not None and at not in done and at not in path:
            path[at] = len(path)
            at = next(iter(parents.get(at, ())), None)
        if at is not None and at in path:
            yield [*list(path)[path[at] :], at]
        done.update(path)


def _without_nodes(switches: Mapping[str, Sequence[str]]) -> list[str]:
    """Switches with no node anywhere below, found from the nodes up."""
    parents = parents_of(switches)
    reached: set[str] = set()
    waiting = [each for each in parents if each not in switches]
    while waiting:
        for name in parents.get(waiting.pop(), ()):
            if name not in reached:
                reached.add(name)
                waiting.append(name)
    return [name for name in switches if name not in reached]


def unknown_switches(switches: Mapping[str, Sequence[str]]) -> Iterator[Problem]:
    """Names beside switches that are no switches: in a description by hand, misspelt ones."""
    for name, below in switches.items():
        known = [each for each in below if each in switches]
        if known:
            for each in dict.fromkeys(below):
                if each not in switches:
                    mend = f"describe {each}, or give nodes that hang on {name} a leaf switch of their own"
                    yield Problem(
                        name,
                        f"{each} hangs beside switches such as {known[0]}, but no switch {each} is described",
                        mend,
                    )
