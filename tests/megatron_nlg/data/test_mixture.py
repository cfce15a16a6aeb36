"""Stages: shares, sources that go on where they were, and orders that nothing later changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from megatron_nlg.config.errors import InputError
from megatron_nlg.data.mixture import MixedDataset
from tests.megatron_nlg.data.corpus import Source, alone, write_corpus
from tests.megatron_nlg.data.test_datasets import build

SECOND = "{from_tokens: 4096, weights: {docs: 1, code: 3}}"  # sample 128
THIRD = "{from_tokens: 8192, weights: {docs: 1}}"  # sample 256
SMALL = {"docs": Source(60, 60, 0.7), "code": Source(60, 40, 0.3)}  # several epochs in 336 samples


@pytest.fixture(scope="module")
def blend(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"), SMALL)


@pytest.fixture(autouse=True)
def group() -> Iterator[None]:
    with alone():
        yield


def train(blend: Path, folder: Path, *stages: str, overrides: tuple[str, ...] = ()) -> MixedDataset:
    return build(blend, folder, f"data.stages=[{', '.join(stages)}]", "evaluation.batches=0", *overrides).train


def rows(dataset: MixedDataset, first: int, end: int) -> list[list[int]]:
    return [dataset[i]["tokens"].tolist() for i in range(first, end)]


def test_every_stage_has_its_own_shares(blend: Path, tmp_path: Path) -> None:
    dataset = train(blend, tmp_path, SECOND, THIRD)
    counts = [Counter(dataset.locate(i)[0] for i in range(a, b)) for a, b in ((0, 128), (128, 256), (256, 336))]
    assert [count["docs"] for count in counts] == [pytest.approx(90, abs=1), pytest.approx(32, abs=1), 80]
    assert len(dataset) == 336


def test_a_source_goes_on_where_the_stage_before_left_off(blend: Path, tmp_path: Path) -> None:
    dataset = train(blend, tmp_path, SECOND, THIRD)
    for source in SMALL:
        taken = [n for name, n in (dataset.locate(i) for i in range(336)) if name == source]
        assert taken == list(range(len(taken)))


def test_a_later_stage_changes_nothing_before_it(blend: Path, tmp_path: Path) -> None:
    plain = rows(train(blend, tmp_path), 0, 336)
    two = train(blend, tmp_path, SECOND)
    three = train(blend, tmp_path, SECOND, THIRD)
    assert rows(two, 0, 128) == plain[:128]
    assert rows(two, 128, 336) != plain[128:]
    assert rows(three, 0, 256) == rows(two, 0, 256)


def test_a_stage_that_needs_more_of_a_source_than_was_planned_gets_another_block(blend: Path, tmp_path: Path) -> None:
    few = "{from_tokens: 0, weights: {docs: 99, code: 1}}"
    many = "{from_tokens: 1024, weights: {docs: 1, code: 99}}"
    stream = train(blend, tmp_path, few, many).streams["code"]
    assert len(stream.blocks) > 1
    assert len(stream) >= 300
    first, second = (len(block) for block in stream.blocks[:2])
    assert stream[first]["tokens"].tolist() == stream.blocks[1][0]["tokens"].tolist()
    again = {tuple(stream.blocks[0][i]["tokens"].tolist()) for i in range(min(first, second))}
    assert again != {tuple(stream.blocks[1][i]["tokens"].tolist()) for i in range(min(first, second))}


def test_a_stage_may_bring_its_own_blend(blend: Path, tmp_path: Path) -> None:
    late = write_corpus(tmp_path / "late", {"fresh": Source(50, 60, 1.0)}, seed=3)
    dataset = train(blend, tmp_path, f"{{from_tokens: 4096, blend: {late}}}")
    assert {dataset.locate(i)[0] for i in range(128, 336)} == {"fresh"}


def test_stages_begin_by_tokens_also_while_samples_are_short(blend: Path, tmp_path: Path) -> None:
    short = "schedule.sequence_warmup={start: 8, multiple: 24, tokens: 800}"
    dataset = train(blend, tmp_path, THIRD, overrides=(short,))
    # 100 samples of 8 tokens, then whole ones: 8192 tokens are 100 + (8192 - 800) / 32 samples
    assert {dataset.locate(i)[0] for i in range(331, len(dataset))} == {"docs"}
    assert dataset.locate(330)[0] == "code" or dataset.locate(329)[0] == "code" or dataset.locate(328)[0] == "code"


def test_beyond_the_end(blend: Path, tmp_path: Path) -> None:
    with pytest.raises(IndexError, match="sample 336 of 336"):
        train(blend, tmp_path)[336]


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("weights: {dogs: 1}", r"weights: .*blend\.yaml has no source dogs; it has docs, code"),
        ("blend: OTHER", r"was made by tokenizer sha256:.*; a run has one tokenizer"),
        ("blend: SAME", r"source docs is .* in one stage and .* in another; .* need names that differ"),
    ],
)
def test_stages_that_can_not_be(blend: Path, tmp_path: Path, stage: str, message: str) -> None:
    if "OTHER" in stage:
        stage = stage.replace("OTHER", str(write_corpus(tmp_path / "other", first_character=5000)))
    if "SAME" in stage:
        stage = stage.replace("SAME", str(write_corpus(tmp_path / "same")))
    with pytest.raises(InputError, match=message):
        train(blend, tmp_path, f"{{from_tokens: 4096, {stage}}}")


# Validation sets


def test_validation_sets_are_read_whole(blend: Path, tmp_path: Path) -> None:
    extra = write_corpus(tmp_path / "extra", {"news": Source(30, 60, 3.0), "code2": Source(30, 40, 1.0)}, seed=5)
    prefix = extra.parent / "tokens" / "news"
    built = build(blend, tmp_path, f"data.validation={{mixed: {extra}, 'just/news': {prefix}, again: {prefix}}}")
    assert list(built.valid) == ["docs", "code", "mixed", "just/news", "again"]
    mixed = built.valid["mixed"]
    assert Counter(mixed.locate(i)[0] for i in range(32)) == {"news": 24, "code2": 8}
    assert len(mixed.streams["news"].blocks[0].indices) == 30
    assert built.valid["again"][0]["tokens"].tolist() == built.valid["just/news"][0]["tokens"].tolist()


@pytest.mark.parametrize(
    ("name", "path", "message"),
    [
        ("docs", "{blend}", r"data\.validation\.docs: a source has that name; choose another"),
        ("far", "{folder}/none.yaml", r"data\.validation\.far: .*none\.yaml: no such file"),
        ("far", "{folder}/none", r"data\.validation\.far: .*none"),
        ("tiny", "{small}", r"data\.validation\.tiny: docs has 4 tokens, and one sample takes 33"),
        ("other", "{other}", r"data\.validation\.other: .* was made by tokenizer .*; prepare it with that"),
    ],
)
def test_validation_sets_that_can_not_be(blend: Path, tmp_path: Path, name: str, path: str, message: str) -> None:
    places = {"blend": blend, "folder": tmp_path}
    if "small" in path:
        places["small"] = write_corpus(tmp_path / "small", {"docs": Source(1, 3, 1.0)}, seed=5)
    if "other" in path:
        places["other"] = write_corpus(tmp_path / "other", first_character=5000)
    with pytest.raises(InputError, match=message):
        build(blend, tmp_path, f"data.validation={{{name}: {path.format(**places)}}}")
