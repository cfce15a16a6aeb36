"""What a node's adapters have carried, by the kernel's counters, and the files in which runs keep it. No torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

FOLDER = "traffic"
INFINIBAND, NETWORK = Path("/sys/class/infiniband"), Path("/proc/net/dev")
WORD = 4
"""InfiniBand counts in units of four bytes."""


@dataclass(frozen=True)
class Carried:
    """Bytes since the adapters were started."""

    sent: int
    received: int
    adapters: str
    """Which were counted: InfiniBand's where there are any, else all of the network's but the loopback."""


@dataclass(frozen=True)
class NodeTraffic:
    """What a node's adapters carried a step of a run, on average; checkpoints that went over them included."""

    node: str
    steps: int
    sent_bytes: float
    received_bytes: float
    step_seconds: float
    adapters: str


def carried(infiniband: Path = INFINIBAND, network: Path = NETWORK) -> Carried:
    """Read the counters of this node."""
    ports = sorted(infiniband.glob("*/ports/*/counters"))
    if ports:
        sent, received = (
            sum(int((port / name).read_text()) for port in ports) for name in ("port_xmit_data", "port_rcv_data")
        )
        return Carried(sent * WORD, received * WORD, "InfiniBand")
    sent = received = 0
    lines = network.read_text(encoding="utf-8").splitlines() if network.exists() else []
    for name, _, counters in (line.strip().partition(":") for line in lines):
        fields = counters.split()  # received: bytes, packets, errors, … eight in all; then sent
        if len(fields) >= 16 and name != "lo":
            received, sent = received + int(fields[0]), sent + int(fields[8])
    return Carried(sent, received, "network")


def write_traffic(run: Path, traffic: NodeTraffic) -> None:
    """Write `traffic/NODE.json` at once."""
    path = run / FOLDER / f"{traffic.node}.json"
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(json.dumps(asdict(traffic)) + "\n", encoding="utf-8")
    temporary.replace(path)


def read_traffic(run: Path) -> list[NodeTraffic]:
    """All nodes' files; those that are damaged are left out."""
    found = []
    for path in sorted((run / FOLDER).glob("*.json")):
        try:
            found.append(NodeTraffic(**json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError):
            continue
    return found
