"""The inside of a node as `nvidia-smi topo -m` prints it, as it comes out of terminals, logs and issue reports.

Headers come wrapped, short of columns or not at all, so the rows alone count: their first cells are the links to GPU0,
GPU1, … and then to the network adapters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from launch.topology.model import Machine, Topology, malformed

LINK = re.compile(r"X|NV\d{1,3}|PIX|PXB|PHB|NODE|SYS|PSB|SOC")
NAME = re.compile(r"(GPU|NIC)\d{1,4}|(mlx|bnxt|rdma)\S+")
"""What rows and columns are called: GPUs, and adapters by number or by their own name."""
NEAR = ("PIX", "PXB", "PHB", "NODE", "SYS")
"""How near an adapter is, nearest first: one PCIe switch, several, the host bridge, one NUMA node, across sockets."""
OWN = ("PIX", "PXB", "PHB")
"""An adapter that is farther than these is not a GPU's own."""
PCIE_GBS = {3: 15.75, 4: 31.5, 5: 63.0, 6: 121.0}
"""PCI Express × 16 of each generation, GB/s one way."""
NVLINK = {1: (20.0, 4), 2: (25.0, 6), 3: (25.0, 12), 4: (25.0, 18), 5: (50.0, 18)}
"""NVLink generation -> (GB/s of a link one way, links of a GPU). Sources: NVIDIA's P100 to B200 data sheets."""
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def parse_nvidia_smi(text: str, source: str) -> Topology:
    """Read the matrix. Raises InputError."""
    rows: dict[str, list[str]] = {}
    lines: dict[str, int] = {}
    header: list[str] = []
    legend: dict[str, str] = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = _ESCAPE.sub("", raw)
        cells = line.split()
        named = re.fullmatch(r"\s*(NIC\d+)\s*:\s*(\S+)\s*", line)
        if named:
            legend[named[1]] = named[2]
        elif len(cells) > 1 and NAME.fullmatch(cells[0]) and LINK.fullmatch(cells[1]):
            if cells[0] in rows:
                raise malformed(source, number, f"a second row {cells[0]}", f"one, as in line {lines[cells[0]]}")
            rows[cells[0]], lines[cells[0]] = _links(cells[1:]), number
        elif not rows:
            header += [cell for cell in cells if NAME.fullmatch(cell)]
    gpus = [name for name in rows if name.startswith("GPU")]
    if not gpus:
        raise malformed(source, 1, "no row of a GPU", "rows such as GPU0 X NV12 NV12 …")
    _check(gpus, rows, lines, source)
    count = len(rows[gpus[0]]) - len(gpus)
    columns = [name for name in header if not name.startswith("GPU")]
    nics = columns if len(columns) == count else [f"NIC{i}" for i in range(count)]
    machine = Machine(
        gpus=tuple(gpus),
        nics=tuple(legend.get(nic, nic) for nic in nics),
        links=tuple(tuple(rows[gpu][: len(gpus)]) for gpu in gpus),
        nearest=_nearest([rows[gpu][len(gpus) :] for gpu in gpus]),
    )
    notes = ("its GPUs have adapters of their own: that is the node's rails",) if machine.rails else ()
    return Topology("nvidia-smi topo -m", source, machine=machine, rails=machine.rails, notes=notes)


def _links(cells: Sequence[str]) -> list[str]:
    """The cells up to the first that is no link: CPU and NUMA affinity follow."""
    links: list[str] = []
    for cell in cells:
        if not LINK.fullmatch(cell):
            break
        links.append(cell)
    return links


def _check(gpus: Sequence[str], rows: Mapping[str, Sequence[str]], lines: Mapping[str, int], source: str) -> None:
    """GPU0, GPU1, …, rows of one length with X on the diagonal, and the same link seen from both ends."""
    width = len(rows[gpus[0]])
    for i, gpu in enumerate(gpus):
        row = rows[gpu]
        if gpu != f"GPU{i}":
            raise malformed(source, lines[gpu], f"the row of {gpu}", f"that of GPU{i}")
        if len(row) != width or width < len(gpus):
            raise malformed(
                source, lines[gpu], f"a row of {len(row)} links", f"{max(width, len(gpus))}, one for a column"
            )
        for j, link in enumerate(row[: len(gpus)]):
            if (link == "X") != (i == j):
                raise malformed(
                    source, lines[gpu], f"the link {link} to GPU{j}", "X for the GPU itself and nowhere else"
                )
            if j < i and link != rows[gpus[j]][i]:
                raise malformed(source, lines[gpu], f"the link {link} to GPU{j}", f"{rows[gpus[j]][i]}, as GPU{j} says")


def _nearest(links: Sequence[Sequence[str]]) -> tuple[tuple[int, ...], ...]:
    """[GPU]: its nearest adapters, () for a GPU that has none of its own."""
    nearest = []
    for row in links:
        best = min((NEAR.index(link) for link in row if link in OWN), default=None)
        nearest.append(tuple(i for i, link in enumerate(row) if best is not None and link == NEAR[best]))
    return tuple(nearest)


def gpu_bandwidth(machine: Machine, nvlink: int, pcie: int) -> float | None:
    """What a GPU sends to its peers at most, GB/s one way, for the generations of NVLink and PCI Express in the node.

    Through NVSwitch, NV12 is what a GPU has for all of its peers; wired in pairs, its links add up. PCI Express binds
    where one pair has no NVLink: collectives go at the pace of their slowest link.
    """
    pairs = [link for i, row in enumerate(machine.links) for j, link in enumerate(row) if i != j]
    if not pairs:
        return None
    if not all(link.startswith("NV") for link in pairs):
        return PCIE_GBS.get(pcie)
    each, most = NVLINK[nvlink]
    sums = [sum(int(link[2:]) for j, link in enumerate(row) if i != j) for i, row in enumerate(machine.links)]
    return each * min(most, *sums)
