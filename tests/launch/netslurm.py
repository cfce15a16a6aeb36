"""The private SLURM with a network: each node has its own host name, address and cable, each leaf switch its uplink.

Linux's network namespaces, joined by bridges and virtual cables, whose counters say what went over each. Needs root.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.launch.minislurm import CONTROLLER, MiniSlurm

PROGRAMS = ("ip", "tc", "nsenter", "unshare", "mount")


@dataclass(frozen=True)
class Rates:
    """Limits of cables in each direction, in tc's notation; None for none."""

    node: str | None = None
    uplink: str | None = None


def unable() -> str | None:
    """Why networks can't be made here; None when they can."""
    if os.geteuid():
        return "network namespaces need root"
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    tried = subprocess.run(
        ["unshare", "--net", "--uts", "--mount", "true"], check=False, capture_output=True, text=True
    )
    return tried.stderr.strip() if tried.returncode else None


class NetSlurm(MiniSlurm):
    """Nodes that see each other over two leaf switches and a spine."""

    def __init__(self, nodes: int = 8, rates: Rates = Rates()):
        super().__init__(nodes, gpus=0)
        self.rates = rates
        self.tag = f"ms{random.randrange(10000)}"
        self._names = [node for leaf in self.leaves for node in leaf]
        self.subnet = f"10.{random.randrange(64, 128)}.{random.randrange(256)}"

    def start(self) -> None:
        """Lay the cables, then start SLURM."""
        hosts = {name: self._address(name) for name in (*self._names, CONTROLLER)}
        lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in hosts.values())]
        (self.root / "hosts").write_text("\n".join(lines) + "\n")
        self._bridge("spine")
        ip("addr", "add", f"{self._address(CONTROLLER)[1]}/24", "dev", f"{self.tag}spine")
        for number, nodes in enumerate(self.leaves, 1):
            self._bridge(f"leaf{number}")
            up, down = f"{self.tag}up{number}", f"{self.tag}dn{number}"
            ip("link", "add", up, "type", "veth", "peer", "name", down)
            for cable, switch in ((up, f"leaf{number}"), (down, "spine")):
                ip("link", "set", cable, "master", f"{self.tag}{switch}", "up")
                limit(cable, self.rates.uplink)
            for node in nodes:
                self._plug_in(node, f"{self.tag}leaf{number}")
        super().start()

    def stop(self) -> None:
        """End all daemons, and take the network away."""
        super().stop()
        for node in self._names:
            with contextlib.suppress(subprocess.CalledProcessError):
                ip("netns", "del", f"{self.tag}{node}")
        for path in Path("/sys/class/net").glob(f"{self.tag}*"):
            with contextlib.suppress(subprocess.CalledProcessError):
                ip("link", "del", path.name)

    def uplink_bytes(self, leaf: int) -> tuple[int, int]:
        """Bytes that have gone over a leaf switch's uplink, up and down. Leaves are counted from 1."""
        folder = Path(f"/sys/class/net/{self.tag}up{leaf}/statistics")
        up, down = (int((folder / name).read_text()) for name in ("tx_bytes", "rx_bytes"))
        return up, down

    def _address(self, name: str) -> tuple[str, str]:
        number = 254 if name == CONTROLLER else int(name.removeprefix("node"))
        return name, f"{self.subnet}.{number}"

    def _at(self, name: str, command: list[str]) -> list[str]:
        # Not `ip netns exec`, which takes /sys away: slurmd would miss its cgroup there.
        enter = [] if name == CONTROLLER else ["nsenter", f"--net=/run/netns/{self.tag}{name}"]
        script = 'hostname "$0" && mount --bind "$1" /etc/hosts && shift && exec "$@"'
        hosts = str(self.root / "hosts")
        return [*enter, "unshare", "--uts", "--mount", "sh", "-c", script, name, hosts, *command]

    def _bridge(self, name: str) -> None:
        ip("link", "add", f"{self.tag}{name}", "type", "bridge")
        ip("link", "set", f"{self.tag}{name}", "up")

    def _plug_in(self, node: str, switch: str) -> None:
        space, cable = f"{self.tag}{node}", f"{self.tag}{node}"
        ip("netns", "add", space)
        ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", space)
        ip("link", "set", cable, "master", switch, "up")
        ip("-n", space, "link", "set", "lo", "up")
        ip("-n", space, "link", "set", "eth0", "up")
        ip("-n", space, "addr", "add", f"{self._address(node)[1]}/24", "dev", "eth0")
        limit(cable, self.rates.node)
        limit("eth0", self.rates.node, space)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def limit(cable: str, rate: str | None, space: str | None = None) -> None:
    """Let no more than `rate` go out on a cable."""
    if rate:
        inside = ["nsenter", f"--net=/run/netns/{space}"] if space else []
        shape = ["tbf", "rate", rate, "burst", "256kb", "latency", "50ms"]
        subprocess.run([*inside, "tc", "qdisc", "add", "dev", cable, "root", *shape], check=True, capture_output=True)
