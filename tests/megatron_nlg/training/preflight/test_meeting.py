"""Ranks in processes of their own, with real exchanges over gloo and planted faults."""

import socket
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.distributed import TCPStore

from megatron_nlg.parallel.device import select_device
from megatron_nlg.parallel.rendezvous import Rendezvous
from megatron_nlg.training.preflight.meeting import Meeting, Wanted
from megatron_nlg.training.preflight.probe import Probe
from tests.world import World

PER_NODE = 2
LEAVES = (("node0", "node1"), ("node2", "node3"))


@dataclass
class Planted:
    """Real exchanges, and figures as planted: what a machine under test measures is chance."""

    probe: Probe
    fault: str
    patience: float

    def gemm_tflops(self) -> float:
        assert self.probe.gemm_tflops() > 0
        return 10.0 if self.fault == "computes slowly" else 100.0

    def bandwidth(self, store: Any, first: bool) -> float:
        if self.fault == "hangs":
            time.sleep(self.patience + 1)
        assert self.probe.bandwidth(store, first) > 0
        return 1e9 if self.fault == "slow link" else 10e9


def hold(folder: str, port: int, faults: dict[str, str], patience: float, expected: list[str]) -> Any:
    """The rank's part on a node that is pretended: two ranks on each. A fault is that of its second rank."""
    rank = dist.get_rank()
    who = Rendezvous(rank, dist.get_world_size(), rank % PER_NODE, PER_NODE)
    node = f"node{rank // PER_NODE}"
    fault = faults.get(node, "") if who.local_rank == 1 else ""
    verdict = None
    if fault != "silent":
        store = TCPStore("127.0.0.1", port, who.world_size, is_master=rank == 0, wait_for_workers=False)
        store.set_timeout(timedelta(seconds=30))
        probe = Planted(Probe(select_device(who.local_rank, who.local_ranks), 1.0), fault, patience)
        wanted = Wanted(Path(folder), leaves=LEAVES, patience=patience, least_free=0)
        verdict = Meeting(who, store, probe, wanted, node).hold(expected)
    dist.barrier()  # the store is rank 0's
    return verdict.to_json() if verdict else None


def held(world: World, folder: Path, faults: dict[str, str], patience: float, expected: list[str]) -> Any:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found, *others = world.run(8, hold, str(folder), port, faults, patience, expected)
    assert others == [None] * 7
    assert list(folder.iterdir()) == []
    return found


def test_every_pair_meets_and_a_missing_node_is_named(world: World, tmp_path: Path) -> None:
    found = held(world, tmp_path, {}, 20.0, ["node0", "node9"])
    assert found["good"] == ["node0", "node1", "node2", "node3"]
    assert found["bad"] == {"node9": "2 of 2 ranks did not answer in 20 s"}
    assert sorted((pair["kind"], *pair["nodes"]) for pair in found["pairs"]) == [
        ("across", "node0", "node2"),
        ("across", "node0", "node3"),
        ("across", "node1", "node2"),
        ("across", "node1", "node3"),
        ("within", "node0", "node1"),
        ("within", "node2", "node3"),
    ]
    assert {pair["gigabytes_per_second"] for pair in found["pairs"]} == {10.0}


def test_slow_nodes_are_named(world: World, tmp_path: Path) -> None:
    found = held(world, tmp_path, {"node1": "slow link", "node2": "computes slowly"}, 20.0, [])
    assert found["good"] == ["node0", "node3"]
    assert found["bad"] == {
        "node1": "3 of 3 exchanges with other nodes run at 18% of the median",
        "node2": "local rank 1 computes 10 TFLOP/s, the median is 100",
    }


def test_a_rank_that_does_not_answer_and_one_that_hangs_hold_nobody_up(world: World, tmp_path: Path) -> None:
    found = held(world, tmp_path, {"node2": "hangs", "node3": "silent"}, 3.0, [])
    assert found["bad"]["node3"] == "1 of 2 ranks did not answer in 3 s"
    assert found["bad"]["node2"].startswith("it stopped answering while it exchanged with others")
    assert found["good"] == ["node0", "node1"]
