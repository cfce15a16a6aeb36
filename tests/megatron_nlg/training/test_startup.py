"""Ranks compare themselves with the plan, and the ones that differ say so in one message."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from launch.placement.plan import Plan
from megatron_nlg.config.errors import InputError
from megatron_nlg.parallel.layout import Layout
from megatron_nlg.parallel.rendezvous import Rendezvous
from megatron_nlg.training import startup
from megatron_nlg.training.startup import check_placement, read_placement

LAYOUT = Layout(pipeline=2, data=1, tensor=2)
PLAN = Plan(LAYOUT, ("n2", "n2", "n1", "n1"))


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The plan's file; ranks have no patience."""
    monkeypatch.setattr(startup, "GATHER_SECONDS", 0.3)
    monkeypatch.setattr(startup, "COURTESY_SECONDS", 0.1)
    path = tmp_path / "placement.json"
    path.write_text(PLAN.to_json())
    return path


def said(path: Path, rank: int, local_rank: int, layout: Layout = LAYOUT) -> str:
    try:
        check_placement(read_placement(path, 4), path, Rendezvous(rank, 4, local_rank, 2), layout)
    except InputError as error:
        return str(error)
    return ""


def test_ranks_in_their_places_leave_no_trace(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", "n1.cluster")  # the same node by its whole name
    assert said(path, 2, 0) == said(path, 3, 1) == ""
    assert [file.name for file in path.parent.iterdir()] == ["placement.json"]


@pytest.mark.parametrize(
    ("rank", "local_rank", "layout", "what"),
    [
        (0, 0, LAYOUT, "rank 0: host n1 in place of n2"),
        (3, 0, LAYOUT, "rank 3: local_rank 0 in place of 1"),
        (2, 0, Layout(data=2, tensor=2), "rank 2: pipe 0 in place of 1, data 1 in place of 0"),
    ],
)
def test_a_rank_that_differs_says_in_what(
    path: Path, monkeypatch: pytest.MonkeyPatch, rank: int, local_rank: int, layout: Layout, what: str
) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", "n1")
    assert f"1 of 4 ranks are not where they are planned: {what}; start them as" in said(path, rank, local_rank, layout)


def test_one_message_names_all_ranks_of_this_start(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", "n3")
    folder = path.with_name("placement.json.differs")
    folder.mkdir()
    (folder / "1").write_text("rank 1: of an earlier start")
    os.utime(folder / "1", (0, 0))
    messages: dict[int, str] = {}
    ranks = [
        threading.Thread(target=lambda rank=rank: messages.update({rank: said(path, rank, rank % 2)}))
        for rank in (0, 2, 3)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    wrong = [f"rank {rank}: host n3 in place of {PLAN.hosts[rank]}" for rank in (0, 2, 3)]
    for rank in (0, 2, 3):
        assert f"3 of 4 ranks are not where they are planned: {'; '.join(wrong)}; start" in messages[rank]


def test_a_folder_that_can_not_be_written_does_not_let_a_rank_pass(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", "n1")
    path.with_name("placement.json.differs").write_text("")
    assert "rank 0: host n1 in place of n2" in said(path, 0, 0)


def test_a_plan_for_other_ranks_or_none_at_all(path: Path) -> None:
    with pytest.raises(InputError, match="is for 4 ranks, and there are 8; plan again"):
        read_placement(path, 8)
    with pytest.raises(InputError, match="can't be read"):
        read_placement(path.with_name("absent.json"), 4)
    path.write_text(path.read_text()[:-40])
    with pytest.raises(InputError, match="not a placement"):
        read_placement(path, 4)


def test_it_needs_no_torch() -> None:
    code = "import sys, megatron_nlg.training.startup; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
