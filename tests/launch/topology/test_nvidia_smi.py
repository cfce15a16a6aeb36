"""`nvidia-smi topo -m`, tidy and as it comes out of logs."""

import pytest

from launch.topology.nvidia_smi import gpu_bandwidth, parse_nvidia_smi
from megatron_nlg.config.errors import InputError
from tests.launch.topology.samples import SMI


def test_links_adapters_and_who_is_near_whom() -> None:
    machine = parse_nvidia_smi(SMI, "t").machine
    assert machine is not None
    assert machine.gpus == ("GPU0", "GPU1", "GPU2", "GPU3")
    assert machine.nics == ("mlx5_0", "mlx5_3")
    assert machine.links[1] == ("NV4", "X", "NV4", "NV4")
    assert machine.nearest == ((0,), (0,), (1,), (1,))
    assert machine.rails == 2


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(SMI.splitlines()[1:]),
        SMI.replace("\tGPU0\tGPU1", "        GPU0\nGPU1", 1),
        SMI.replace("\t", "    "),
        SMI.replace("GPU3\tNIC0", "NIC0", 1),
        "\x1b[4m" + SMI.replace("\n", "\x1b[0m\n", 1),
    ],
    ids=["no header", "wrapped header", "blanks", "short header", "underlined"],
)
def test_the_rows_count_whatever_the_header_is(text: str) -> None:
    assert parse_nvidia_smi(text, "t").machine == parse_nvidia_smi(SMI, "t").machine


def test_a_gpus_bandwidth_is_its_links_or_pci_express() -> None:
    machine = parse_nvidia_smi(SMI, "t").machine
    assert machine is not None
    assert gpu_bandwidth(machine, nvlink=3, pcie=4) == 300, "NV4 to each of three peers: 12 links of 25"
    through_switches = parse_nvidia_smi(SMI.replace("NV4", "NV18"), "t").machine
    assert through_switches is not None
    assert gpu_bandwidth(through_switches, nvlink=4, pcie=5) == 450, "NV18 are all the links of a GPU, through NVSwitch"
    pairs = parse_nvidia_smi(SMI.replace("NV4", "SYS"), "t").machine
    assert pairs is not None
    assert gpu_bandwidth(pairs, nvlink=3, pcie=4) == 31.5


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("GPU1\tNV4\t X ", "GPU1\tNV4\tNV4", "t:3: found the link NV4 to GPU1, expected X"),
        ("GPU1\tNV4", "GPU1\tNV2", "t:3: found the link NV2 to GPU0, expected NV4, as GPU0 says"),
        ("GPU1\tNV4", "GPU5\tNV4", "t:3: found the row of GPU5, expected that of GPU1"),
        ("GPU1\tNV4", "GPU0\tNV4", "t:3: found a second row GPU0, expected one, as in line 2"),
        ("PIX\tSYS\t0-15\t0\nGPU1", "PIX\t0-15\t0\nGPU1", "t:3: found a row of 6 links, expected 5"),
        ("GPU", "CPU", "t:1: found no row of a GPU"),
    ],
)
def test_what_does_not_fit_is_said_with_its_line(old: str, new: str, what: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_nvidia_smi(SMI.replace(old, new, 100 if old == "GPU" else 1), "t")
    assert what in str(caught.value)
