"""The plan's files: what a job obeys and checks."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.placement.plan import Plan, differences, write_file
from megatron_nlg.config.errors import InputError
from megatron_nlg.parallel.layout import Layout

PLAN = Plan(Layout(pipeline=2, data=2, tensor=2), ("b", "b", "a", "a", "b", "b", "a", "a"))


def test_local_ranks_follow_global_ones_as_slurm_numbers_them() -> None:
    assert [seat.local_rank for seat in PLAN.seats] == [0, 1, 0, 1, 2, 3, 2, 3]
    assert PLAN.nodes == ("b", "a")
    assert PLAN.hostfile.split() == list(PLAN.hosts)
    assert [(seat.pipe, seat.data, seat.tensor) for seat in PLAN.seats[4:6]] == [(1, 0, 0), (1, 0, 1)]


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(1, 2), st.data())
def test_json_is_read_as_written(pipeline: int, data: int, tensor: int, context: int, draw: st.DataObject) -> None:
    layout = Layout(pipeline, data, tensor, context=context)
    hosts = draw.draw(st.lists(st.sampled_from("abc"), min_size=layout.world_size, max_size=layout.world_size))
    plan = Plan(layout, tuple(hosts))
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda tree: tree["ranks"].pop(), "7 ranks, and tensor 2"),
        (lambda tree: tree["ranks"][3].update(local_rank=5), "rank 3: local_rank 5 does not follow"),
        (lambda tree: tree["ranks"][3].pop("host"), "'host' is missing"),
        (lambda tree: tree["layout"].update(tensor="2"), "not a placement"),
        (lambda tree: tree["layout"].update(depth=2), "depth"),
        (lambda tree: tree.update(ranks=4), "not a placement"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(change, says: str) -> None:  # type: ignore[no-untyped-def]
    tree = json.loads(PLAN.to_json())
    change(tree)
    with pytest.raises(InputError, match=says):
        Plan.from_json(json.dumps(tree))


@given(st.text())
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="not a placement"):
        Plan.from_json(text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none"):
        Plan.read(tmp_path / "none.json")


def test_the_table_as_csv() -> None:
    rows = list(csv.DictReader(PLAN.to_csv().splitlines()))
    assert rows[4] == {
        "rank": "4",
        "host": "b",
        "local_rank": "2",
        "pipe": "1",
        "data": "0",
        "context": "0",
        "tensor": "0",
    }


def test_differences_name_the_rank_and_what_is_wrong() -> None:
    found = [{"rank": 0, "host": "b", "local_rank": 0}, {"rank": 1, "host": "a", "local_rank": 1}, {"rank": 9}]
    assert differences(PLAN, found) == ["rank 1: host a in place of b", "rank 9: rank 9 in place of None"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_file(tmp_path / "hosts", "a\n")
    with pytest.raises(InputError, match="can't be written"):
        write_file(tmp_path / "none" / "hosts", "a\n")
    assert [path.name for path in tmp_path.iterdir()] == ["hosts"]
