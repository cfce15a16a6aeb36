"""Which texts are looked at, fitted on and judged by."""

from __future__ import annotations

from pathlib import Path

import pytest

from megatron_nlg.analysis.geometry.examples import Examples, examples_of, read_sets_of, settings_of
from megatron_nlg.config.dump import to_yaml
from megatron_nlg.config.errors import ConfigError, InputError
from tests.megatron_nlg.analysis.models import TEXTS
from tests.megatron_nlg.data.texts import write_texts
from tests.tiny import tiny


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """A folder of transformers, a pre-trained run and a classifier, of which only configs are read."""
    for name, overrides in (
        ("pretrained", []),
        ("classifier", [*write_texts(tmp_path), "data.classification.cut=start"]),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(to_yaml(tiny(*overrides)))
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text("{}")
    return [tmp_path / name for name in ("bert", "pretrained", "classifier")]


def test_the_first_classifier_says_how_texts_are_read(folders: list[Path]) -> None:
    found = settings_of(folders, None, None, None)
    assert (found.text, found.labels, found.max_length, found.cut) == ("{sentence}", ("0", "1"), 32, "start")
    found = settings_of(folders[:2], "{a} {b}", "kind", "no,yes")
    assert (found.text, found.label, found.labels, found.max_length) == ("{a} {b}", "kind", ("no", "yes"), 128)
    with pytest.raises(InputError, match="--labels: none of the models is a classifier here"):
        settings_of(folders[:2], None, None, None)
    with pytest.raises(ConfigError, match=r"data\.classification\.labels"):
        settings_of(folders, None, None, "one")
    with pytest.raises(InputError, match=r"has neither config.yaml nor config.json"):
        settings_of([folders[0].parent], None, None, None)


def examples(
    folders: list[Path], data: Path | None, train: Path | None, limit: int, split: float, seed: int
) -> Examples:
    settings = settings_of(folders, None, None, None)
    return examples_of(*read_sets_of(folders[-1], data, train, settings), settings, limit, split, seed)


def test_parts_do_not_meet_and_limits_hold(folders: list[Path], tmp_path: Path) -> None:
    train, valid = tmp_path / "train.tsv", tmp_path / "valid.tsv"
    found = examples(folders, train, None, 50, 0.6, seed=1)
    assert (len(found.shown), len(found.fitted), len(found.held)) == (50, 30, 20)
    assert not {*found.fitted.tolist()} & {*found.held.tolist()}
    again = examples(folders, train, None, 50, 0.6, seed=1)
    assert again.identity == found.identity
    assert again.held.tolist() == found.held.tolist()
    assert examples(folders, train, None, 50, 0.6, seed=2).identity != found.identity
    both = examples(folders, valid, train, 60, 0.5, seed=0)
    assert both.held.tolist() == both.shown.tolist() == list(range(37))
    assert both.fitted.tolist() == list(range(37, 97))
    assert examples(folders, None, None, 60, 0.5, seed=0).identity == both.identity  # what the classifier has itself


def test_too_little_is_said(folders: list[Path], tmp_path: Path) -> None:
    few = tmp_path / "few.tsv"
    few.write_text("sentence\tlabel\n" + "".join(f"{text}\t1\n" for text in TEXTS * 2))
    for arguments, message in (
        ((folders, few, None), r"leaves 6 texts of 1 classes to fit on; four or more of two are needed"),
        ((folders, None, few), r"--train .*few\.tsv: without --data a classifier's own texts are taken"),
    ):
        with pytest.raises(InputError, match=message):
            examples(*arguments, 50, 0.5, seed=0)
    with pytest.raises(InputError, match=r"--data: .*pretrained is no classifier"):
        read_sets_of(folders[1], None, None, settings_of(folders, None, None, None))
