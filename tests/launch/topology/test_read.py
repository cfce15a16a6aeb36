"""Every format is recognised by what is in it, and no text does worse than an InputError."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launch.topology.build import build_fabric
from launch.topology.describe import describe
from launch.topology.read import parse_topology, read_topology
from megatron_nlg.config.errors import InputError
from tests.launch.topology import samples
from tests.launch.topology.test_build import CLUSTER

FORMATS = {
    "scontrol": "SLURM tree topology",
    "conf": "SLURM tree topology",
    "conf_blocks": "SLURM block topology",
    "scontrol_blocks": "SLURM block topology",
    "yaml": "SLURM topology.yaml (tree)",
    "yaml_blocks": "SLURM topology.yaml (block)",
    "addresses": "SLURM_TOPOLOGY_ADDR of an allocation",
    "plain": "plain switches",
    "json": "plain switches",
    "topograph": "topograph model",
    "nvidia_smi": "nvidia-smi topo -m",
    "nccl": "NCCL topology XML",
    "ibnetdiscover": "ibnetdiscover",
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_says_itself_what_it_is(name: str, tmp_path: Path) -> None:
    path = tmp_path / "topology"
    path.write_bytes(samples.ALL[name].replace("\n", "\r\n").encode())
    topology = read_topology(path)
    assert topology.format == FORMATS[name]
    assert str(topology).startswith(f"{path}: {FORMATS[name]}: ")
    assert topology.nodes or topology.machine


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", ":1: found 'an empty file'|:1: found an empty file"),
        (b"\n\nhello\n", ":3: found 'hello', expected topology.conf or .yaml"),
        (b"SwitchName=a\nNodes=\xff\n", ":2: found a byte that is not UTF-8"),
        (b"slurm_load_topo: No topology information available\n", "this SLURM knows no topology"),
    ],
)
def test_what_is_no_topology_says_what_was_found(content: bytes, what: str, tmp_path: Path) -> None:
    path = tmp_path / "topology"
    path.write_bytes(content)
    with pytest.raises(InputError, match=what):
        read_topology(path)


def test_no_file_and_no_slurm_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="No such file or directory; give a file, scontrol or srun"):
        read_topology(tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="scontrol is not installed here"):
        read_topology("scontrol")
    monkeypatch.delenv("SLURM_JOB_NUM_NODES", raising=False)
    with pytest.raises(InputError, match="run it inside a job, or ask scontrol"):
        read_topology("srun")


def test_scontrol_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "scontrol"
    fake.write_text(f"#!/bin/sh\n[ \"$*\" = 'show topology' ] && cat <<'E'\n{samples.SCONTROL}E\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert read_topology("scontrol").nodes == ("n1", "n2", "n3")


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A valid text with a few characters or lines changed, cut, doubled or moved."""
    text = draw(st.sampled_from(sorted(samples.ALL.values())))
    for _ in range(draw(st.integers(1, 4))):
        lines = draw(st.booleans())
        parts = text.splitlines(keepends=True) if lines else list(text)
        if not parts:
            return text
        at = draw(st.integers(0, len(parts) - 1))
        length = draw(st.integers(1, 3))
        instead = {
            "cut": [],
            "double": parts[at : at + length] * 2,
            "other": [draw(st.text(st.characters(codec="utf-8"), max_size=4))],
            "syntax": [draw(st.sampled_from(list("[]{}=,:.\"'<>#&*\\-0\n\t |>!%@")))],
            "elsewhere": [parts[draw(st.integers(0, len(parts) - 1))]],
        }
        kind = draw(st.sampled_from([*instead, "end", "begin"]))
        if kind in instead:
            parts[at : at + length] = instead[kind]
        else:
            parts = parts[:at] if kind == "end" else parts[at:]
        text = "".join(parts)
    return text


@given(mutated())
@settings(max_examples=1500)
def test_a_broken_text_is_read_or_refused_with_its_line(text: str) -> None:
    try:
        topology = parse_topology(text, "t")
    except InputError as error:
        assert "t:" in str(error)
        return
    assert topology.nodes or topology.machine
    try:
        describe(build_fabric(CLUSTER, topology))
    except InputError as error:
        assert "t: " in str(error)


REAL = {
    "ibnetdiscover_example.out": (121, 9),
    "models_medium.yaml": (8, 7),
    "models_nvl72.yaml": (72, 7),
    "models_small-tree.yaml": (6, 3),
    "scontrol_show_topology_soperator.txt": (4, 6),
}
INSIDES = {
    "litgpt_all_nvlink_connected_output.txt": (4, 0, None),
    "litgpt_nvlink_partially_connected_output.txt": (4, 0, None),
    "nvsentinel_h100_dgx_mlx5_columns.txt": (8, 10, 8),
    "nvsentinel_oci_wrapped_header.txt": (8, 2, None),
    "ndv4-topo.xml": (8, 8, 8),
}


@pytest.mark.parametrize("name", [*REAL, *INSIDES])
def test_recorded_topologies_of_real_clusters_are_read(name: str, real_data: Path) -> None:
    topology = read_topology(real_data / "topology" / name)
    if topology.machine is None:
        assert (len(topology.nodes), len(topology.switches)) == REAL[name]
    else:
        assert (len(topology.machine.gpus), len(topology.machine.nics), topology.machine.rails) == INSIDES[name]
