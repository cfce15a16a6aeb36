"""Measurements in, good and bad nodes out."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.training.preflight.pairs import rounds
from megatron_nlg.training.preflight.verdict import Measured, judge

NODES = [f"node{i}" for i in range(8)]


def measured(slow_node: str | None = None, dead: str | None = None) -> Measured:
    pairs = [pair for turn in rounds([NODES], 5) for pair in turn]
    rates = [None if dead in pair else 2e9 if slow_node in pair else 10e9 for pair in pairs]
    return Measured(
        gemm_tflops={node: [100.0, 101.0] for node in NODES},
        clocks=dict.fromkeys(NODES, 1e9),
        bandwidth=[("within", pair, rate) for pair, rate in zip(pairs, rates, strict=True)],
    )


def test_equal_nodes_are_good() -> None:
    verdict = judge(measured(), NODES, 0.8)
    assert (verdict.good, verdict.bad, verdict.notes) == (NODES, {}, [])


@given(st.sampled_from(NODES))
def test_the_slow_node_is_blamed_and_not_its_partners(node: str) -> None:
    verdict = judge(measured(slow_node=node), NODES, 0.8)
    assert verdict.bad == {node: "5 of 5 exchanges with other nodes run at 20% of the median"}


def test_two_slow_nodes_that_met_each_other() -> None:
    found = measured()
    found.bandwidth = [
        (kind, pair, 1e9 if {"node1", "node6"} & {*pair} else rate) for kind, pair, rate in found.bandwidth
    ]
    assert sorted(judge(found, NODES, 0.8).bad) == ["node1", "node6"]


def test_a_node_that_no_other_reaches() -> None:
    assert judge(measured(dead="node3"), NODES, 0.8).bad == {"node3": "5 of 5 nodes did not reach it"}


def test_one_slow_link_blames_nobody() -> None:
    found = measured()
    kind, pair, _ = found.bandwidth[0]
    found.bandwidth[0] = (kind, pair, 1e9)
    verdict = judge(found, NODES, 0.8)
    assert verdict.bad == {}
    assert verdict.notes == [f"within leaves: {pair[0]} and {pair[1]} exchange 1 GB/s, the median is 10"]


def test_two_nodes_cannot_tell_whose_fault_it_is() -> None:
    verdict = judge(Measured(bandwidth=[("within", ("a", "b"), None)]), ["a", "b"], 0.8)
    assert verdict.good == ["a", "b"]
    assert verdict.notes == ["within leaves: a and b did not reach each other"]


def test_slow_compute_a_wrong_clock_and_own_problems() -> None:
    found = measured()
    found.gemm_tflops["node2"] = [100.0, 60.0]
    found.clocks["node4"] += 90
    found.problems["node5"] = ["GPU 3 has 2 uncorrected memory errors"]
    assert judge(found, NODES, 0.8).bad == {
        "node2": "local rank 1 computes 60 TFLOP/s, the median is 100",
        "node4": "its clock is +90.0 s off",
        "node5": "GPU 3 has 2 uncorrected memory errors",
    }


def test_across_leaves_is_compared_with_across_leaves() -> None:
    within = [("within", pair, 10e9) for pair in combinations(NODES[:4], 2)]
    across = [("across", (a, b), 1e9) for a, b in zip(NODES[:4], NODES[4:], strict=True)]
    assert judge(Measured(bandwidth=[*within, *across]), NODES, 0.8).bad == {}
