"""NCCL's topology XML."""

import pytest

from launch.topology.nccl import parse_nccl
from megatron_nlg.config.errors import InputError
from tests.launch.topology.samples import NCCL


def test_gpus_adapters_links_and_rails() -> None:
    machine = parse_nccl(NCCL, "t").machine
    assert machine is not None
    assert machine.gpus == ("0000:18:00.0", "0000:98:00.0")
    assert machine.nics == ("mlx5_0", "mlx5_1")
    assert machine.nearest == ((0,), (1,))
    assert machine.rails == 2
    assert machine.gpu_gbs == 450, "18 × 25 GB/s"
    assert machine.nic_gbs == 100, "2 × 400 Gb/s"
    assert machine.pcie_gbs == pytest.approx(63, rel=1e-3)


def test_a_gpu_without_nvlink_among_others_with_is_pointed_out() -> None:
    topology = parse_nccl(NCCL.replace('<nvlink target="0000:07:00.0" count="18" tclass="0x068000"/>', ""), "t")
    assert topology.notes == ("no NVLink at 0000:98:00.0, and at the other GPUs there is: look at that node",)


def test_adapters_without_a_pci_device_are_nobodys_own() -> None:
    machine = parse_nccl(NCCL.replace("</cpu>", '<nic><net name="eth0" speed="100000"/></nic></cpu>', 1), "t").machine
    assert machine is not None
    assert machine.nics == ("mlx5_0", "eth0", "mlx5_1")
    assert machine.nearest == ((0,), (2,))
    assert machine.nic_gbs == 100


def test_of_several_nodes_on_one_nvlink_the_first_is_read() -> None:
    text = NCCL.replace('numaid="0"', 'numaid="0" host_hash="0xa"').replace('numaid="1"', 'numaid="0" host_hash="0xb"')
    topology = parse_nccl(text, "t")
    assert topology.machine is not None
    assert topology.machine.gpus == ("0000:18:00.0",)
    assert topology.notes == ("2 nodes of one NVLink domain are described: the first is read",)


def test_entities_are_never_expanded() -> None:
    bomb = (
        '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>\n<system><cpu>&b;</cpu></system>'
    )
    with pytest.raises(InputError, match="t:1: found a DTD, expected elements only"):
        parse_nccl(bomb, "t")


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("</gpu>", "", r"t:\d+: found no valid XML \(mismatched tag\)"),
        ("system", "node", "t:1: found the element node, expected <system>"),
        ('count="9"', 'count="many"', "t:6: found 'count=many', expected a whole number"),
        ("32.0 GT/s PCIe", "fast", "found 'fast', expected a speed such as 16.0 GT/s"),
        ("0x0302", "0x0108", "no valid|no GPU"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(old: str, new: str, what: str) -> None:
    text = NCCL.replace(old, new)
    if old == "0x0302":
        text = text.replace("<gpu", "<other").replace("</gpu", "</other")
    with pytest.raises(InputError, match=what):
        parse_nccl(text, "t")


def test_elements_in_each_other_end_somewhere() -> None:
    with pytest.raises(InputError, match="at most 64"):
        parse_nccl("<system>" + "<pci>" * 100_000, "t")
