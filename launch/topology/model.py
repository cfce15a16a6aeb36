"""What every reader gives: who hangs on which switch, and what one node looks like inside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from megatron_nlg.config.errors import InputError, Problem
from megatron_nlg.config.switches import Switches, nodes_of, tree_problems

LISTED = 10
"""Problems and names that a message lists before it only counts."""


@dataclass(frozen=True)
class Machine:
    """The inside of a node."""

    gpus: tuple[str, ...]
    nics: tuple[str, ...]
    links: tuple[tuple[str, ...], ...] = ()
    """[GPU, GPU]: how each pair is linked, in nvidia-smi's words (NV12, PIX, SYS, …; X for itself); () if not known."""
    nearest: tuple[tuple[int, ...], ...] = ()
    """[GPU]: the adapters that are nearest to it, as positions in `nics`; () where none is nearer than others."""
    gpu_gbs: float | None = None
    """What a GPU sends to its peers at most, GB/s, where the source knows it."""
    pcie_gbs: float | None = None
    """What a GPU sends over PCI Express, GB/s, where the source knows it."""
    nic_gbs: float | None = None
    """What the GPUs' adapters send together at most, GB/s, where the source knows it."""

    @property
    def rails(self) -> int | None:
        """Adapters, or equal groups of them, that each serve their own GPUs; None where GPUs have none of their own."""
        groups: dict[tuple[int, ...], int] = {}
        for nics in self.nearest:
            groups[nics] = groups.get(nics, 0) + 1
        served = [nic for nics in groups for nic in nics]
        rails = [min(len(nics), gpus) for nics, gpus in groups.items()]
        if not rails or min(rails) == 0 or len(set(rails)) > 1 or len(set(served)) < len(served):
            return None
        return sum(rails)


@dataclass(frozen=True)
class Topology:
    """What one source says about a cluster."""

    format: str
    """The kind of source, as users call it."""
    source: str
    """The file or command."""
    switches: Switches = field(default_factory=dict)
    """Switch -> switches and nodes that hang on it: a tree or several; empty when the source knows no network."""
    domains: Mapping[str, str] = field(default_factory=dict)
    """Node -> the NVLink domain, or SLURM's block, that it is in."""
    uplinks: Mapping[str, float] = field(default_factory=dict)
    """Node or switch -> bandwidth of its links up, in GB/s, where the source knows it."""
    rails: int | None = None
    """Separate networks that a node's adapters are on, where the source knows it."""
    machine: Machine | None = None
    """The inside of a node, when that is what the source describes."""
    notes: tuple[str, ...] = ()
    """What a reader should know of how it was read."""

    @cached_property
    def nodes(self) -> tuple[str, ...]:
        """Names of all nodes, leaf by leaf."""
        return tuple(dict.fromkeys([*nodes_of(self.switches), *self.domains]))

    def __str__(self) -> str:
        what = f"{len(self.nodes)} nodes, {len(self.switches)} switches"
        if self.domains:
            what += f", {len(set(self.domains.values()))} NVLink domains or blocks"
        if self.machine:
            what = f"a node of {len(self.machine.gpus)} GPUs and {len(self.machine.nics)} network adapters"
        return f"{self.source}: {self.format}: {what}"


def malformed(source: str, line: int, found: object, expected: str) -> InputError:
    """The error of a file that is not what it should be."""
    shown = found if isinstance(found, str) and found.startswith(("a ", "an ", "no ", "the ")) else repr(found)
    return InputError(f"{source}:{line}: found {_short(str(shown))}, expected {expected}")


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


def listed(names: Iterable[str]) -> str:
    """`a, b, c and 7 more`."""
    every = list(names)
    more = f" and {len(every) - LISTED} more" if len(every) > LISTED else ""
    return ", ".join(every[:LISTED]) + more


def find(union: dict[str, str], name: str) -> str:
    """The one that stands for all that `union` joins with a name (union-find, paths halved on the way)."""
    while union[name] != name:
        union[name] = union[union[name]]
        name = union[name]
    return name


def without_empty(below: Mapping[str, Sequence[str]]) -> Switches:
    """Without the switches that no node hangs below; trees only. They carry nothing."""
    switches = dict(below)
    while gone := {name for name, under in switches.items() if not under}:
        switches = {
            name: [each for each in under if each not in gone] for name, under in switches.items() if name not in gone
        }
    return {name: tuple(under) for name, under in switches.items()}


def empty_note(every: Mapping[str, object], kept: Switches) -> tuple[str, ...]:
    """What to say of switches and blocks without nodes, as they are where nodes come and go."""
    gone = [name for name in every if name not in kept]
    return (f"nothing hangs on {listed(gone)}: left out",) if gone else ()


def check_tree(switches: Switches, lines: Mapping[str, int], source: str) -> None:
    """Raise an InputError that lists, with their lines, what keeps the switches from being trees with nodes below."""
    report([*tree_problems(switches)], lines, source)
    if not nodes_of(switches):
        raise malformed(source, 1, "no node", "switches with the nodes that hang on them")


def report(problems: Sequence[Problem], lines: Mapping[str, int], source: str) -> None:
    """Raise an InputError of all problems, if there are any; each has the line where its key was told."""
    if problems:
        texts = [f"{source}:{lines.get(problem.key, 1)}: {problem}" for problem in problems[:LISTED]]
        if len(problems) > LISTED:
            texts.append(f"… {len(problems) - LISTED} more")
        raise InputError("\n".join(texts))
