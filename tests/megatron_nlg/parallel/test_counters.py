"""Counters of adapters, and the files of runs."""

from pathlib import Path

from megatron_nlg.parallel.counters import Carried, NodeTraffic, carried, read_traffic, write_traffic

NETWORK = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier
    lo: 1000000000 1 0 0 0 0 0 0 1000000000 1 0 0 0 0 0 0
  eth0:       7    1 0 0 0 0 0 0        5    1 0 0 0 0 0 0
  ib0:200 1 0 0 0 0 0 0 100 1 0 0 0 0 0 0
"""


def test_the_network_is_counted_without_the_loopback(tmp_path: Path) -> None:
    (tmp_path / "dev").write_text(NETWORK)
    assert carried(tmp_path / "none", tmp_path / "dev") == Carried(105, 207, "network")


def test_infiniband_comes_before_the_network_and_counts_words(tmp_path: Path) -> None:
    (tmp_path / "dev").write_text(NETWORK)
    for adapter in range(2):
        counters = tmp_path / f"mlx5_{adapter}" / "ports" / "1" / "counters"
        counters.mkdir(parents=True)
        (counters / "port_xmit_data").write_text("3\n")
        (counters / "port_rcv_data").write_text("4\n")
    assert carried(tmp_path, tmp_path / "dev") == Carried(24, 32, "InfiniBand")


def test_this_machine_has_counters() -> None:
    assert carried().sent >= 0


def test_files_of_all_nodes_are_read_and_damaged_ones_left_out(tmp_path: Path) -> None:
    assert read_traffic(tmp_path) == []
    wanted = [NodeTraffic(node, 10, 1.5, 2.5, 0.1, "network") for node in ("a", "b")]
    for traffic in wanted:
        write_traffic(tmp_path, traffic)
    (tmp_path / "traffic" / "c.json").write_text('{"node": ')
    assert read_traffic(tmp_path) == wanted
