"""The inside of a node as NCCL sees it: the XML of NCCL_TOPO_FILE and NCCL_TOPO_DUMP_FILE."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

from launch.topology.model import Machine, Topology, listed, malformed
from launch.topology.nvidia_smi import NVLINK

GPU_CLASSES = ("0x0300", "0x0302")
"""PCI classes of display and 3D controllers, as they begin."""
NIC_CLASSES = ("0x0200", "0x0207")
"""Those of Ethernet and InfiniBand adapters."""
GENERATION = ((100, 5), (90, 4), (80, 3), (70, 2), (60, 1))
"""Compute capability × 10 from which a GPU has that generation of NVLink."""
DEEPEST = 64


@dataclass
class Element:
    """One XML element, the line it starts in, and the elements inside."""

    name: str
    attributes: Mapping[str, str]
    line: int
    children: list[Element] = field(default_factory=list)

    def has(self, name: str) -> bool:
        """Whether an element of that name is directly inside."""
        return any(child.name == name for child in self.children)


@dataclass(frozen=True)
class Device:
    """A GPU or adapter and the way to it: the numbers of the elements around it, from the outermost in."""

    name: str
    way: tuple[int, ...]
    element: Element


def parse_nccl(text: str, source: str) -> Topology:
    """Read NCCL's XML. Raises InputError, also for a DTD: its entities could stand for gigabytes."""
    root = _parse(text, source)
    if root.name != "system":
        raise malformed(source, root.line, f"the element {root.name}", "<system>, as NCCL_TOPO_DUMP_FILE writes it")
    hosts = {cpu.attributes.get("host_hash"): None for cpu in root.children if cpu.name == "cpu"}
    first = next(iter(hosts), None)
    devices = list(_devices(root, (), first))
    gpus = [device for device in devices if _is(device.element, GPU_CLASSES, "gpu")]
    nics = [device for device in devices if device.element.name == "nic" or _is(device.element, NIC_CLASSES, "nic")]
    if not gpus:
        raise malformed(source, root.line, "no GPU", '<pci class="0x0302…"> elements')
    links = [_gpu_gbs(gpu.element, source) for gpu in gpus]
    nearest = tuple(_nearest(gpu, nics) for gpu in gpus)
    # Adapters that are no GPU's own, for storage or management, are not counted where others are.
    own = {nic for near in nearest for nic in near} or set(range(len(nics)))
    networks = [gbs for i in own if (gbs := _nic_gbs(nics[i].element, source)) is not None]
    machine = Machine(
        gpus=tuple(gpu.name for gpu in gpus),
        nics=tuple(nic.name for nic in nics),
        nearest=nearest,
        gpu_gbs=min((gbs for gbs in links if gbs is not None), default=None),
        pcie_gbs=min((gbs for gpu in gpus if (gbs := _pcie_gbs(gpu.element, source)) is not None), default=None),
        nic_gbs=sum(networks) if networks else None,
    )
    notes = [f"{len(hosts)} nodes of one NVLink domain are described: the first is read"] if len(hosts) > 1 else []
    without = [gpu.name for gpu, gbs in zip(gpus, links, strict=True) if gbs is None]
    if len(without) == len(gpus):
        notes.append("no NVLink is described: NCCL adds what it finds, so the GPUs' bandwidth is not taken from here")
    elif without:
        notes.append(f"no NVLink at {listed(without)}, and at the other GPUs there is: look at that node")
    return Topology("NCCL topology XML", source, machine=machine, rails=machine.rails, notes=tuple(notes))


def _parse(text: str, source: str) -> Element:
    parser = expat.ParserCreate()
    outside = Element("", {}, 0)
    path = [outside]

    def start(name: str, attributes: dict[str, str]) -> None:
        if len(path) > DEEPEST:
            raise malformed(source, parser.CurrentLineNumber, name, f"at most {DEEPEST} elements in each other")
        element = Element(name, attributes, parser.CurrentLineNumber)
        path[-1].children.append(element)
        path.append(element)

    def doctype(*_: object) -> None:
        raise malformed(source, parser.CurrentLineNumber, "a DTD", "elements only")

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: path.pop()
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        message = expat.ErrorString(error.code)
        raise malformed(source, error.lineno, f"no valid XML ({message})", "NCCL's topology") from None
    return outside.children[0]


def _devices(element: Element, way: tuple[int, ...], host: str | None) -> Iterator[Device]:
    """PCI devices, and adapters that hang on a CPU without one, as those of virtual machines; of one host."""
    for i, child in enumerate(element.children):
        if child.name == "cpu" and child.attributes.get("host_hash") != host:
            continue
        if child.name == "pci" or (child.name == "nic" and element.name != "pci"):
            yield Device(_name(child), (*way, i), child)
        yield from _devices(child, (*way, i), host)


def _nets(device: Element) -> list[Element]:
    nics = [device] if device.name == "nic" else [child for child in device.children if child.name == "nic"]
    return [net for nic in nics for net in nic.children if net.name == "net"]


def _name(device: Element) -> str:
    """What NCCL calls a network device, else the bus address."""
    named = [net.attributes["name"] for net in _nets(device) if net.attributes.get("name")]
    return named[0] if named else device.attributes.get("busid", "?")


def _is(pci: Element, classes: tuple[str, ...], inside: str) -> bool:
    return pci.attributes.get("class", "").lower().startswith(classes) or pci.has(inside)


def _nearest(gpu: Device, nics: list[Device]) -> tuple[int, ...]:
    """The adapters with which a GPU shares the longest way in from the CPU; () when that is not even a PCIe switch."""
    shared = []
    for nic in nics:
        same = [one == other for one, other in zip(gpu.way, nic.way, strict=False)]
        shared.append(same.index(False) if False in same else len(same))
    best = max(shared, default=0)
    return tuple(i for i, length in enumerate(shared) if length == best) if best >= 2 else ()


def _gpu_gbs(pci: Element, source: str) -> float | None:
    """The sum of a GPU's NVLinks."""
    total = 0.0
    for gpu in pci.children:
        if gpu.name != "gpu":
            continue
        generation = next((g for sm, g in GENERATION if _number(gpu, "sm", source, "0") >= sm), None)
        for link in gpu.children:
            if link.name == "nvlink" and generation is not None:
                total += NVLINK[generation][0] * _number(link, "count", source, "1")
    return total or None


def _nic_gbs(device: Element, source: str) -> float | None:
    """What an adapter's ports send, GB/s; NCCL says Mb/s."""
    return sum(_number(net, "speed", source, "0") for net in _nets(device)) / 8000 or None


def _pcie_gbs(pci: Element, source: str) -> float | None:
    """GB/s one way of a device's PCI Express, as `16.0 GT/s PCIe` × 16 lanes; 128/130 of it are data."""
    if not pci.attributes.get("link_speed") or not pci.attributes.get("link_width"):
        return None
    match = re.match(r"\s*(\d{1,3}(?:\.\d+)?)\s*GT/s", pci.attributes["link_speed"])
    if match is None:
        raise malformed(source, pci.line, pci.attributes["link_speed"], "a speed such as 16.0 GT/s")
    return float(match[1]) * _number(pci, "link_width", source, "16") / 8 * 128 / 130


def _number(element: Element, key: str, source: str, default: str) -> float:
    text = element.attributes.get(key, default)
    if not re.fullmatch(r"\d{1,9}", text):
        raise malformed(source, element.line, f"{key}={text}", "a whole number")
    return float(text)
