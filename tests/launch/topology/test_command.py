"""`megatron-nlg topology`."""

import json
from pathlib import Path

import pytest

from megatron_nlg.cli import main
from tests.launch.topology import samples


def shown(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, *options: str) -> str:
    path = tmp_path / "t"
    path.write_text(text)
    assert main(["topology", str(path), *options]) == 0
    return capsys.readouterr().out.replace(str(path), "t")


def test_a_tree_is_shown_and_converted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = samples.PLAIN + "domains: {d1: 'n[1-2]'}\n"
    assert shown(capsys, tmp_path, text) == (
        "t: plain switches: 3 nodes, 3 switches, 1 NVLink domains or blocks\n"
        "  left: n[1-2], 40 GB/s up\n  right: n3, 20 GB/s up\n  spine: left,right\n"
        "  d1: n[1-2] share NVLink, or a block\n"
    )
    conf = shown(capsys, tmp_path, text, "--as", "conf")
    assert conf == "SwitchName=left Nodes=n[1-2]\nSwitchName=right Nodes=n3\nSwitchName=spine Switches=left,right\n"
    assert shown(capsys, tmp_path, conf, "--as", "yaml").startswith("- topology: fabric\n")
    assert json.loads(shown(capsys, tmp_path, conf, "--as", "leaves")) == {"left": ["n1", "n2"], "right": ["n3"]}


def test_the_inside_of_a_node_is_shown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = shown(capsys, tmp_path, samples.NCCL)
    assert "0000:18:00.0, nearest mlx5_0" in out
    assert "GPU link 450 GB/s, PCI Express 63.02 GB/s, adapters 100 GB/s" in out
    assert "GPU2: NV4 to the others, nearest mlx5_3" in shown(capsys, tmp_path, samples.SMI)


def test_a_cluster_says_what_the_links_can_do(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = shown(capsys, tmp_path, samples.SCONTROL, "--cluster", "configs/clusters/selene.yaml")
    assert "4,000 GB/s each way" in out


def test_no_switches_can_not_be_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text(samples.SMI)
    assert main(["topology", str(path), "--as", "conf"]) == 2
    assert "names no switches" in capsys.readouterr().err
