from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron_nlg.config.base import apply_overrides
from megatron_nlg.config.errors import InputError
from megatron_nlg.studies.sweep.grid import Axis, grid_runs, parse_axis, parse_grid

RATES = st.lists(st.floats(1e-8, 1e3), min_size=1, max_size=6, unique=True)


@given(RATES)
def test_every_value_comes_back_as_an_override(rates: list[float]) -> None:
    axis = parse_axis(f"optimizer.lr={','.join(map(repr, rates))}")
    assert (axis.name, axis.keys) == ("lr", ("optimizer.lr",))
    trees = [apply_overrides({}, point.overrides) for point in axis.points]
    assert [tree["optimizer"]["lr"] for tree in trees] == rates


@given(st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 999)), min_size=1, max_size=6, unique=True))
def test_bound_settings_change_together(sizes: list[tuple[int, int]]) -> None:
    axis = parse_axis("model.hidden_size:model.num_layers=" + ",".join(f"{h}:{n}" for h, n in sizes))
    models = [apply_overrides({}, point.overrides)["model"] for point in axis.points]
    assert [(model["hidden_size"], model["num_layers"]) for model in models] == sizes
    assert len({point.label for point in axis.points}) == len(sizes)


@settings(max_examples=25)
@given(RATES, st.lists(st.integers(1, 9), min_size=1, max_size=4, unique=True))
def test_all_combinations_each_with_a_folder_of_its_own(rates: list[float], layers: list[int]) -> None:
    axes = parse_grid([f"optimizer.lr={','.join(map(repr, rates))}", f"model.num_layers={','.join(map(str, layers))}"])
    runs = grid_runs(axes)
    assert len({run.name for run in runs}) == len({run.overrides for run in runs}) == len(rates) * len(layers)
    assert all(set(run.name) <= set("abcdefghijklmnopqrstuvwxyz_=,.+-0123456789") for run in runs)


@settings(max_examples=50)
@given(st.text(max_size=40))
def test_any_other_text_is_bad_input(text: str) -> None:
    try:
        assert isinstance(parse_axis(text), Axis)
    except InputError as error:
        assert str(error).startswith(f"--grid {text}")


def test_commas_of_lists_and_quotes_are_no_separators() -> None:
    axis = parse_axis("data.split=[0.9, 0.1],[0.8, 0.2]")
    assert [point.overrides for point in axis.points] == [("data.split=[0.9, 0.1]",), ("data.split=[0.8, 0.2]",)]


def test_files_of_settings(tmp_path: Path) -> None:
    for name, layers in (("small", 2), ("large", 4)):
        (tmp_path / f"{name}.yaml").write_text(f"model:\n  num_layers: {layers}\n  activation: gelu\n")
    axis = parse_axis(f"size=@{tmp_path}/small.yaml,@{tmp_path}/large.yaml")
    assert [run.name for run in grid_runs([axis])] == ["size=small", "size=large"]
    assert axis.points[1].overrides == ("model.num_layers=4", 'model.activation="gelu"')


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ([], "--grid: at least one is needed"),
        (["optimizer.lr="], "expected KEY=VALUE"),
        (["optimizer.lr=1e-3,,1"], "expected KEY=VALUE"),
        (["optimizer.rate=1,2"], "optimizer.rate: unknown key; did you mean optimizer.lr?"),
        (["optimiser.lr=1,2"], "did you mean optimizer"),
        (["optimizer.lr=1e-3,0.001"], "0.001 is given twice"),
        (["optimizer.lr=1,2", "optimizer.lr=3,4"], "is set by --grid optimizer.lr=1,2 too"),
        (["model.hidden_size:model.hidden_size=1:2"], "is bound to itself"),
        (["model.hidden_size:model.num_layers=64:2,128"], "128 has not one value for each"),
        (["size=@nowhere.yaml"], "nowhere.yaml: no such file"),
        (["seed=1,2"], "is set by the override seed=3 too"),
        (["optimizer.lr=[1,2"], "not valid YAML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(grid: list[str], said: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_grid(grid, ["seed=3"])
    assert said in str(caught.value)
