"""SLURM's own words: `scontrol show topology`, topology.conf, and the addresses of an allocation's nodes."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from launch.topology.model import Topology, check_tree, empty_note, find, malformed, without_empty
from megatron_nlg.config.errors import InputError, MegatronNlgError
from megatron_nlg.config.hostlist import expand
from megatron_nlg.config.switches import Switches, parents_of

FIRST_KEYS = {"switchname": "SwitchName", "blockname": "BlockName", "aggregatedblock": "AggregatedBlock"}
"""Keys that a record starts with; keys are written in any case."""
USED_KEYS = {"nodes", "switches", "level", "blockindex", "blocksize", "blocksizes", "linkspeed"}
_ASSIGNED = re.compile(r"\s+=\s*")
SECONDS = 60
"""How long SLURM's commands may take."""


class Token(NamedTuple):
    """One KEY=VALUE."""

    key: str
    value: str
    line: int


@dataclass
class Record:
    """A switch or block: what hangs on it, as the file says."""

    name: str
    line: int
    nodes: list[str] = field(default_factory=list)
    switches: list[str] = field(default_factory=list)


def parse_slurm(text: str, source: str) -> Topology:
    """Read topology.conf, or what `scontrol show topology` printed, of the tree or the block plugin."""
    switches: list[Record] = []
    blocks: list[Record] = []
    notes: dict[str, None] = {}
    current: Record | None = None
    for token in _tokens(text, source):
        if token.key in FIRST_KEYS:
            if not token.value:
                raise malformed(source, token.line, f"{FIRST_KEYS[token.key]}=", "a name after it")
            current = Record(token.value, token.line)
            if token.key == "aggregatedblock":
                notes["aggregated blocks are sizes that SLURM plans with, not switches: they are not read"] = None
            else:
                (switches if token.key == "switchname" else blocks).append(current)
        elif token.key == "blocksizes":
            continue  # on a line of its own, too
        elif current is None:
            raise malformed(source, token.line, token.key, "SwitchName=… or BlockName=… first")
        elif token.key in {"nodes", "switches"}:
            getattr(current, token.key).extend(_hosts(token, source))
        else:
            notes |= dict.fromkeys(_remarks(token))
    if switches and blocks:
        raise malformed(source, blocks[0].line, "a block", "switches only, or blocks only")
    if blocks:
        return blocks_topology(blocks, "SLURM block topology", source, list(notes))
    return tree_topology(switches, "SLURM tree topology", source, list(notes))


def _tokens(text: str, source: str) -> Iterator[Token]:
    """KEY=VALUE words of lines without comments, a backslash at the end of a line joins the next to it."""
    pending, start = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        start = start or number
        content = _ASSIGNED.sub("=", line.partition("#")[0].rstrip())
        if content.endswith("\\"):
            pending += content[:-1]
            continue
        for word in (pending + content).split():
            key, sign, value = word.partition("=")
            if not sign or not key:
                raise malformed(source, start, word, "KEY=VALUE, such as SwitchName=leaf1 Nodes=node[1-8]")
            yield Token(key.lower(), value.strip('"'), start)
        pending, start = "", 0
    if pending:
        raise malformed(source, start, "the end of the file", "a line after the backslash")


def _hosts(token: Token, source: str) -> list[str]:
    try:
        return expand(token.value)
    except InputError as error:
        raise InputError(f"{source}:{token.line}: {error}") from None


def _remarks(token: Token) -> Iterator[str]:
    if token.key not in USED_KEYS:
        yield f"{token.key} is not read"
    elif token.key == "linkspeed" and token.value not in {"", "1"}:
        yield "LinkSpeed has no unit in SLURM and is not read: bandwidths are the cluster description's"


def tree_topology(records: Sequence[Record], kind: str, source: str, notes: Sequence[str]) -> Topology:
    """Switches as a tree: nodes stay with the lowest switch that lists them, spines over the same leaves are one."""
    lines: dict[str, int] = {}
    below: dict[str, Record] = {}
    problems = []
    for record in records:
        if record.name in below:
            problems.append(
                f"{source}:{record.line}: {record.name} is described twice, before in line {lines[record.name]}"
            )
        lines.setdefault(record.name, record.line)
        below.setdefault(record.name, record)
        for each in (*record.nodes, *record.switches):
            lines.setdefault(each, record.line)
    for record in records:
        # scontrol also lists children that SLURM knows nothing of.
        problems += (
            f"{source}:{record.line}: switch {each}, which hangs on {record.name}, is not described"
            for each in record.switches
            if each not in below
        )
    if problems:
        raise InputError("\n".join(problems[:10]))
    joined, merged = _joined({name: tuple(dict.fromkeys(record.switches)) for name, record in below.items()})
    nodes: dict[str, list[str]] = {name: [] for name in joined}
    for name, record in below.items():
        nodes[merged.get(name, name)] += record.nodes
    every = _lowest(joined, nodes)
    switches = without_empty(every)
    check_tree(switches, lines, source)
    remarks = [f"{name} has switches in common with {into}: taken as one" for name, into in merged.items()]
    return Topology(kind, source, switches, notes=(*notes, *remarks, *empty_note(every, switches)))


def _joined(switches: Switches) -> tuple[Switches, dict[str, str]]:
    """One way up for every switch: (what hangs on each, merged switch -> the one that it is in).

    Of two switches above, the lower counts; two that are not above each other are spines in parallel, and become one.
    """
    union = {name: name for name in switches}
    out = _lowest(dict.fromkeys(switches, ()), switches)
    while doubled := [above for above in parents_of(out).values() if len(above) > 1]:
        for first, *others in doubled:
            for other in others:
                union[find(union, other)] = find(union, first)
        again: dict[str, dict[str, None]] = {}
        for name, below in out.items():
            again.setdefault(find(union, name), {}).update(dict.fromkeys(find(union, each) for each in below))
        out = {name: tuple(below) for name, below in again.items()}
    return out, {name: find(union, name) for name in union if union[name] != name}


def _lowest(switches: Switches, listed_by: Mapping[str, Sequence[str]]) -> Switches:
    """Hang each thing on the lowest of the switches that list it: SLURM lists nodes under all above as well.

    `switches` is what hangs on them already, and which one is above another is found in both.
    """
    parents: dict[str, list[str]] = {}
    for source in (switches, listed_by):
        for each, above in parents_of(source).items():
            parents.setdefault(each, []).extend(above)
    ancestors = {name: _ancestors(name, parents) for name in switches}
    out = {name: list(below) for name, below in switches.items()}
    for each, names in parents_of(listed_by).items():
        higher = set().union(*(ancestors[name] for name in names)) if len(names) > 1 else set()
        for name in dict.fromkeys(names):
            if name not in higher:
                out[name].append(each)
    return {name: tuple(below) for name, below in out.items()}


def _ancestors(name: str, parents: Mapping[str, Sequence[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = list(parents.get(name, ()))
    while waiting:
        each = waiting.pop()
        if each not in seen:
            seen.add(each)
            waiting += parents.get(each, ())
    return seen - {name}


def blocks_topology(records: Sequence[Record], kind: str, source: str, notes: Sequence[str]) -> Topology:
    """Blocks: nodes that are near each other, and nothing is said of what joins the blocks."""
    blocks: Switches = {}
    lines: dict[str, int] = {}
    for record in records:
        if record.name in blocks:
            raise malformed(
                source, record.line, f"a second block {record.name}", f"one, as in line {lines[record.name]}"
            )
        lines |= dict.fromkeys(record.nodes, record.line) | {record.name: record.line}
        blocks[record.name] = tuple(record.nodes)
    kept = without_empty(blocks)
    check_tree(kept, lines, source)
    domains = {node: name for name, below in kept.items() for node in below}
    return Topology(kind, source, domains=domains, notes=(*notes, *empty_note(blocks, kept)))


def parse_addresses(text: str, source: str) -> Topology:
    """Read lines `node SLURM_TOPOLOGY_ADDR SLURM_TOPOLOGY_ADDR_PATTERN`, one of each node of an allocation."""
    records: dict[str, Record] = {}
    lines: dict[str, int] = {}
    kinds: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        if not (words := line.partition("#")[0].split()):
            continue
        node, path = _address(words, number, source)
        if node in lines:
            raise malformed(source, number, f"a second line of {node}", f"one, as in line {lines[node]}")
        lines[node] = number
        for i, (kind, name) in enumerate(path):
            kinds.add(kind)
            record = records.setdefault(name, Record(name, number))
            below = path[i + 1][1] if i + 1 < len(path) else None
            if below is None:
                record.nodes.append(node)
            elif below not in record.switches:
                record.switches.append(below)
    if not lines:
        raise malformed(source, 1, "no address", "lines `node address pattern`")
    kind = "SLURM_TOPOLOGY_ADDR of an allocation"
    if not records:
        return Topology(kind, source, {"all": tuple(lines)}, notes=("SLURM knows no switches: all nodes on one",))
    if kinds == {"block"} and not any(record.switches for record in records.values()):
        return blocks_topology(list(records.values()), kind, source, ())
    return tree_topology(list(records.values()), kind, source, ())


def _address(words: Sequence[str], line: int, source: str) -> tuple[str, list[tuple[str, str]]]:
    """(Node, [(switch or block, its name)] from the top)."""
    expected = "`node address pattern`, such as `node1 spine.leaf1.node1 switch.switch.node`"
    if len(words) != 3:
        raise malformed(source, line, " ".join(words), expected)
    node, address, pattern = words
    kinds = pattern.split(".")
    if kinds[-1] != "node" or any(kind not in {"switch", "block"} for kind in kinds[:-1]):
        raise malformed(source, line, pattern, expected)
    names = address.split(".", len(kinds) - 1)  # the node's own name may have dots
    if len(names) != len(kinds) or names[-1] != node:
        raise malformed(source, line, address, f"{len(kinds)} names joined by dots, the last of them {node}")
    return node, [(kind, _one(name, line, source)) for kind, name in zip(kinds, names[:-1], strict=False) if name]


def _one(switches: str, line: int, source: str) -> str:
    """`spine[1,3-4]`, parallel ways up, as one name."""
    names = sorted(_hosts(Token("", switches, line), source))
    return names[0] if len(names) == 1 else f"{names[0]}+{len(names) - 1}"


def show_topology() -> str:
    """What `scontrol show topology` prints here."""
    return _output(["scontrol", "show", "topology"])


def collect_addresses() -> str:
    """Inside an allocation: the address of each of its nodes, in lines that `parse_addresses` reads."""
    nodes = os.environ.get("SLURM_JOB_NUM_NODES")
    if nodes is None:
        raise InputError("srun: addresses are those of an allocation's nodes; run it inside a job, or ask scontrol")
    script = 'echo "$SLURMD_NODENAME $SLURM_TOPOLOGY_ADDR $SLURM_TOPOLOGY_ADDR_PATTERN"'
    told = _output(["srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "bash", "-c", script])
    return "\n".join(sorted(told.splitlines()))  # nodes answer in any order


def _output(command: list[str]) -> str:
    shown = " ".join(command[:3])
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS)
    except FileNotFoundError:
        raise InputError(
            f"{shown}: {command[0]} is not installed here; give a file, or run it on a login node"
        ) from None
    except subprocess.TimeoutExpired:
        raise MegatronNlgError(f"{shown}: no answer in {SECONDS} s; is slurmctld up?") from None
    if done.returncode:
        raise MegatronNlgError(f"{shown} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
