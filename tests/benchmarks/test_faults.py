"""A handful of the trials of benchmarks/faults.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.faults import Campaign, corruptions, failures, summary
from megatron_nlg.training.checkpoint.format import steps_in
from tests.job import can_fork


@pytest.mark.slow
def test_kills_damage_and_a_stopped_rank_change_nothing(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, steps=30, watchdog=4.0, damage_share=1.0, fork=can_fork())
    kinds = ["kill while a checkpoint is written", "stop"]
    campaign.run(iter(kinds))
    assert [row["kind"] for row in campaign.rows] == kinds
    checkpoints = tmp_path / "reference" / "checkpoints"
    outcomes = corruptions(checkpoints / f"step_{max(steps_in(checkpoints)):08d}", 30, campaign.draw)
    result = summary(campaign, outcomes)
    assert result["runs_equal_to_the_undisturbed"] == result["runs"], campaign.failed
    assert failures(result) == []
