from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.config.base import all_keys, apply_overrides, build, known_keys, merge, parse_yaml, read_yaml
from megatron_nlg.config.errors import ConfigError, InputError
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.config.validate import consistency
from tests.megatron_nlg.config.strategies import trees
from tests.tiny import TREE


def sections(section: type[Any], prefix: str = "") -> Iterator[str]:
    """Dotted paths of a config's nested sections, the root's being empty."""
    yield prefix
    for key, nested in known_keys(section).items():
        if nested:
            yield from sections(nested, f"{prefix}{key}.")


SECTIONS = sorted(sections(RunConfig))
PARTIAL = ("batch.ramp.", "data.classification.", "data.stages.", "schedule.sequence_warmup.")
"""Sections that may be left out, and whose own keys are required where they are given."""


def insert(tree: dict[str, Any], dotted: str, value: Any) -> dict[str, Any]:
    tree = copy.deepcopy(tree)
    *path, last = dotted.split(".")
    here = tree
    for part in path:
        if not isinstance(here.get(part), dict):
            here[part] = {}
        here = here[part]
    here[last] = value
    return tree


@given(trees())
def test_generated_configs_are_valid(tree: dict[str, Any]) -> None:
    assert list(consistency(build(RunConfig, tree, "generated"))) == []


@given(
    trees(),
    st.sampled_from(SECTIONS).filter(lambda section: section not in PARTIAL),
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True),
)
def test_any_unknown_key_is_reported_and_a_known_one_named(tree: dict[str, Any], section: str, name: str) -> None:
    key = section + name
    known = all_keys(RunConfig)
    if key in known:
        return
    with pytest.raises(ConfigError) as caught:
        build(RunConfig, insert(tree, key, 1), "generated")
    assert [p.key for p in caught.value.problems] == [key]
    problem = caught.value.problems[0]
    assert problem.message == "unknown key"
    assert any(k.rpartition(".")[2] in problem.mend for k in known)


def test_an_unknown_key_of_a_lists_item_names_the_lists_keys() -> None:
    with pytest.raises(
        ConfigError, match=r"data\.stages\.0\.from_token: unknown key; did you mean data\.stages\.from_to"
    ):
        build(RunConfig, {"data": {"stages": [{"from_token": 0, "blend": "b"}]}}, "file")


@pytest.mark.parametrize(
    ("key", "named"),
    [
        ("model.num_layer", "model.num_layers"),
        ("model.hiden_size", "model.hidden_size"),
        ("batch.global_", "batch.global"),
        ("num_layers", "model.num_layers"),
        ("paralel", "parallel"),
        ("model.zero_stage", "parallel.zero_stage"),
        ("batch.ramp.roundng", "batch.ramp.rounding"),
    ],
)
def test_the_nearest_key_is_named(key: str, named: str) -> None:
    tree = insert(TREE, "batch.ramp", {"start": 8, "increment": 8, "tokens": 100}) if "ramp" in key else TREE
    with pytest.raises(ConfigError, match="unknown key") as caught:
        build(RunConfig, insert(tree, key, 1), "x")
    assert caught.value.problems[0].mend == f"did you mean {named}?"


def test_all_problems_are_reported_together() -> None:
    tree = insert(insert(insert(TREE, "model.num_layers", -1), "optimizer.lrr", 1), "seed", "one")
    del tree["batch"]["global"]
    with pytest.raises(ConfigError) as caught:
        build(RunConfig, tree, "run.yaml")
    assert {p.key for p in caught.value.problems} == {"model.num_layers", "optimizer.lrr", "seed", "batch.global"}
    text = str(caught.value)
    assert text.startswith("run.yaml: 4 problems\n")
    assert "not -1" in text
    assert "not 'one'" in text


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan", "true", "'0.1'", "[1]", "null", ""])
def test_a_number_is_a_finite_number(value: str) -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.lr: "):
        build(RunConfig, apply_overrides(TREE, [f"optimizer.lr={value}"]), "x")


def test_yaml_numbers_are_read_as_people_write_them() -> None:
    config = build(RunConfig, apply_overrides(TREE, ["optimizer.lr=5e-5", "schedule.train_tokens=270e9"]), "x")
    assert config.optimizer.lr == 5e-5
    assert config.schedule.train_tokens == 270_000_000_000
    with pytest.raises(ConfigError, match=r"schedule\.train_tokens"):
        build(RunConfig, apply_overrides(TREE, ["schedule.train_tokens=1.5"]), "x")


@given(st.recursive(st.integers() | st.text("abc"), lambda t: st.dictionaries(st.sampled_from("abc"), t)))
def test_merge_with_itself_and_with_nothing_changes_nothing(tree: Any) -> None:
    mapping = {"root": tree}
    assert merge(mapping, mapping) == mapping
    assert merge(mapping, {}) == mapping
    assert merge({}, mapping) == mapping


@given(st.sampled_from([k for k in all_keys(RunConfig) if "." in k]), st.integers(-(10**9), 10**9))
def test_an_override_sets_its_key_and_no_other(key: str, value: int) -> None:
    after = apply_overrides(TREE, [f"{key}={value}"])
    assert after == insert(TREE, key, value)


def test_the_last_override_wins_and_null_takes_a_section_away() -> None:
    ramp = "batch.ramp={start: 8, increment: 8, tokens: 100}"
    tree = apply_overrides(TREE, ["model.num_layers=2", "model.num_layers=6", ramp, "batch.ramp.start=16"])
    config = build(RunConfig, tree, "x")
    assert config.model.num_layers == 6
    assert config.batch.ramp is not None
    assert config.batch.ramp.start == 16
    assert build(RunConfig, apply_overrides(tree, ["batch.ramp=null"]), "x").batch.ramp is None


@pytest.mark.parametrize("override", ["model.num_layers", "=3", "model..x=1", ".=1", "model.=2"])
def test_what_is_not_an_override_is_refused(override: str) -> None:
    with pytest.raises(InputError, match="expected key=value"):
        apply_overrides(TREE, [override])


def test_syntax_errors_name_file_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("model:\n  num_layers: [1\n")
    with pytest.raises(InputError, match=r"run\.yaml:3:1: not valid YAML"):
        read_yaml(path)
    with pytest.raises(InputError, match=r"^override seed:1:3: not valid YAML"):
        apply_overrides(TREE, ["seed=[1"])


def test_a_repeated_key_is_refused() -> None:
    with pytest.raises(InputError, match=r"x:2:1: not valid YAML: key 'a' is given twice"):
        parse_yaml("a: 1\na: 2\n", "x")


def test_includes_are_laid_under_the_file_in_order(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "a.yaml").write_text("model: {num_layers: 1, hidden_size: 1}\nseed: 1\n")
    (tmp_path / "parts" / "b.yaml").write_text("include: [c.yaml]\nmodel: {hidden_size: 2}\n")
    (tmp_path / "parts" / "c.yaml").write_text("precision: fp32\nseed: 3\n")
    (tmp_path / "run.yaml").write_text("include: [parts/a.yaml, parts/b.yaml]\nmodel: {num_layers: 9}\n")
    assert read_yaml(tmp_path / "run.yaml") == {
        "model": {"num_layers": 9, "hidden_size": 2},
        "seed": 3,
        "precision": "fp32",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("include: [run.yaml]", "includes itself"),
        ("include: [absent.yaml]", r"absent\.yaml: no such file"),
        ("include: x.yaml", "a list of file names is expected, not 'x.yaml'"),
        ("- 1", "a mapping of settings is expected, not a list"),
    ],
)
def test_bad_files_are_input_errors(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_yaml(path)


def test_a_file_that_is_not_text_is_an_input_error(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(b"seed: \xff\n")
    with pytest.raises(InputError, match="not UTF-8 at byte 6"):
        read_yaml(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_yaml(tmp_path)


@given(st.text(max_size=200))
def test_any_text_is_parsed_or_refused_as_input(text: str) -> None:
    try:
        parse_yaml(text, "fuzz")
    except InputError as error:
        assert str(error).startswith("fuzz")
