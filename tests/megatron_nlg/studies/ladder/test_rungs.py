from __future__ import annotations

import pytest

from megatron_nlg.config.base import all_keys
from megatron_nlg.config.errors import InputError
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.studies.ladder.rungs import DEFAULT, RUNGS, SMALLER, Machine, ladder, varied

GPU = Machine(gpus=4, ranks=4, not_compiled=None, libraries=False)
CPU = Machine(gpus=None, ranks=2, not_compiled="no GPU", libraries=False)
OPTIONS = {"precision": "bf16", "tensor": 2, "pipeline": 2}


def test_each_rung_has_the_settings_of_those_below_it() -> None:
    steps = {step.rung.name: step for step in ladder([rung.name for rung in RUNGS], GPU, OPTIONS)}
    assert all(step.why_not is None for step in steps.values())
    assert "kernels.attention=naive" in steps["mixed"].overrides and "precision=bf16" in steps["mixed"].overrides
    assert {"kernels.attention=fused", "kernels.compiled=true", "precision=bf16"} <= set(steps["data"].overrides)
    assert {step.ranks for name, step in steps.items() if name in ("data", "tensor", "pipeline")} == {4}
    assert steps["fused"].ranks == 1
    assert {"parallel.tensor=1", "parallel.pipeline=2"} <= set(steps["pipeline"].overrides)
    assert steps["tensor"].title == "tensor parallel × 2"


def test_what_a_machine_can_not_do_is_left_out_with_its_reason() -> None:
    steps = {step.rung.name: step for step in ladder([rung.name for rung in RUNGS], CPU, OPTIONS)}
    assert steps["tf32"].why_not == "the CPU has no TF32"
    assert "no GPU" in str(steps["fused"].why_not)
    assert "kernels.tf32=true" not in steps["data"].overrides  # nor is it a part of those above
    one = Machine(gpus=1, ranks=1, not_compiled=None, libraries=True)
    assert ladder(["data"], one, OPTIONS)[0].why_not == "one rank only: there is one GPU, or one micro-batch"
    assert ladder(["tensor"], GPU, {**OPTIONS, "tensor": 3})[0].why_not == "--tensor 3 does not divide 4 ranks"
    assert ladder(["tensor"], GPU, {**OPTIONS, "tensor": 1})[0].why_not == "--tensor 1: nothing is cut"


def test_the_table_names_settings_that_there_are() -> None:
    keys = set(all_keys(RunConfig))
    assert varied() <= keys and {text.partition("=")[0] for text in SMALLER} <= keys
    assert set(DEFAULT) <= {rung.name for rung in RUNGS}


def test_an_unknown_rung() -> None:
    with pytest.raises(InputError, match="--rungs warp: there is none"):
        ladder(["fp32", "warp"], CPU, OPTIONS)
