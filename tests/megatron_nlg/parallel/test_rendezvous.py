"""Which rank a process is, and on which node, by the variables of torchrun and SLURM."""

from __future__ import annotations

import os
import socket

import pytest

from megatron_nlg.config.errors import InputError
from megatron_nlg.parallel.rendezvous import Rendezvous, is_this_node, node_name


def environment(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", *os.environ):
        if name.startswith(("SLURM", "MASTER_")) or name.endswith(("RANK", "WORLD_SIZE")):
            monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_ranks_of_torchrun_and_of_srun_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, MASTER_ADDR="node", RANK="3", WORLD_SIZE="8", LOCAL_RANK="1", LOCAL_WORLD_SIZE="2")
    assert Rendezvous.from_environment() == Rendezvous(3, 8, 1, 2)
    srun = {"SLURM_PROCID": "2", "SLURM_NTASKS": "7", "SLURM_LOCALID": "2"}
    environment(monkeypatch, MASTER_ADDR="node", SLURM_TASKS_PER_NODE="4,3", **srun)
    assert Rendezvous.from_environment() == Rendezvous(2, 7, 2, 4)
    environment(monkeypatch, SLURM_PROCID="0", SLURM_NTASKS="4")  # an allocation, and no step of a job of ours
    assert Rendezvous.from_environment() is None
    environment(monkeypatch)
    assert Rendezvous.from_environment() is None


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"RANK": "x", "WORLD_SIZE": "8"}, "RANK 'x' in the environment: a whole number is expected"),
        ({"RANK": "0", "WORLD_SIZE": ""}, "WORLD_SIZE ''"),
        ({"RANK": "8", "WORLD_SIZE": "8"}, "RANK 8 in the environment: WORLD_SIZE says that there are 8 ranks"),
        ({"SLURM_PROCID": "-1", "SLURM_NTASKS": "8"}, "SLURM_PROCID '-1'"),
    ],
)
def test_a_broken_environment_is_bad_input(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    environment(monkeypatch, MASTER_ADDR="node", **variables)
    with pytest.raises(InputError) as caught:
        Rendezvous.from_environment()
    assert said in str(caught.value)


def test_a_node_goes_by_slurms_name_for_it_else_by_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch)
    assert node_name() == socket.gethostname()
    environment(monkeypatch, SLURMD_NODENAME="n1")
    assert node_name() == "n1"
    assert [is_this_node(name) for name in ("n1", "n1.cluster", "n", "n10", "n1x")] == [True, True, False, False, False]
    environment(monkeypatch, SLURMD_NODENAME="10.0.0.1")
    assert not is_this_node("10.0.0.11")
