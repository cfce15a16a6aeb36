"""Sample order, the blend's shares, padding, the index folder, and what bad input gets."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron_nlg.config.errors import InputError, MegatronNlgError
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.data import mixture
from megatron_nlg.data.datasets import Datasets, build_datasets
from tests.megatron_nlg.data.corpus import TWO, Source, alone, digest, write_corpus
from tests.tiny import tiny


@pytest.fixture(scope="module")
def blend(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def group() -> Iterator[None]:
    with alone():
        yield


def config(blend: Path, *overrides: str) -> RunConfig:
    return tiny(f"data.blend={blend}", "data.split=[0.9, 0.1]", "evaluation.batches=2", *overrides)


def build(blend: Path, folder: Path, *overrides: str) -> Datasets:
    return build_datasets(config(blend, *overrides), folder)


# Content


def test_samples_are_tokens_and_the_same_shifted_by_one(blend: Path, tmp_path: Path, group: None) -> None:
    train = build(blend, tmp_path).train
    for i in range(320 + 16):  # training and one more batch
        sample = train[i]
        assert sample["tokens"].shape == sample["labels"].shape == sample["loss_mask"].shape == (32,)
        assert (sample["tokens"][1:] == sample["labels"][:-1]).all()


@pytest.mark.parametrize("weights", [(0.7, 0.3), (7.0, 3.0)])
def test_sources_are_drawn_by_their_weights(tmp_path: Path, group: None, weights: tuple[float, float]) -> None:
    sources = {name: Source(s.documents, s.length, w) for (name, s), w in zip(TWO.items(), weights, strict=True)}
    train = build(write_corpus(tmp_path / "corpus", sources), tmp_path).train
    docs = sum(bool((train[i]["tokens"] < 100).any()) for i in range(300))
    assert docs == pytest.approx(210, abs=1)


def test_one_source_needs_no_blending(tmp_path: Path, group: None) -> None:
    built = build(write_corpus(tmp_path / "corpus", {"docs": Source(200, 60, 5.0)}), tmp_path)
    assert [built.train.locate(i) for i in range(len(built.train))] == [("docs", i) for i in range(336)]


def test_validation_is_per_source_and_disjoint_from_training(tmp_path: Path, group: None) -> None:
    """The split is by document: the last tenth of each source."""
    built = build(write_corpus(tmp_path / "corpus"), tmp_path)
    assert list(built.valid) == ["docs", "code"]
    assert all(len(v) >= 2 * 16 for v in built.valid.values())
    for number, (name, valid) in enumerate(built.valid.items()):
        [source] = built.train.streams[name].blocks
        assert set(valid.indices).isdisjoint(source.indices)
        assert sorted([*source.indices, *valid.indices]) == list(range(TWO[name].documents))
        assert len(valid.indices) == TWO[name].documents // 10
        assert (valid[0]["tokens"] // 100 == number).any()


def test_no_token_is_taken_for_padding(tmp_path: Path, group: None) -> None:
    """GPTDataset masks the loss of its pad id and turns it into token 0: no real token may be that, eod least."""
    blend = write_corpus(tmp_path / "corpus", {"docs": Source(400, 5, 1.0)})
    built = build(blend, tmp_path)
    tokens = np.concatenate([built.train[i]["labels"].numpy() for i in range(300)])
    masks = np.concatenate([built.train[i]["loss_mask"].numpy() for i in range(300)])
    assert (masks == 1).all()
    assert (tokens == built.eod).sum() > 1000
    raw = np.fromfile(blend.parent / "tokens" / "docs.bin", np.uint16)
    assert np.mean(tokens == 0) == pytest.approx(np.mean(raw == 0), rel=0.3)


def test_a_pad_id_that_is_a_token_would_be_masked(tmp_path: Path, group: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trap that DatasetTokenizer.pad avoids. When this fails, Megatron-core has mended it."""
    monkeypatch.setattr(mixture.DatasetTokenizer, "pad", 7)
    train = build(write_corpus(tmp_path / "corpus", {"docs": Source(400, 5, 1.0)}), tmp_path).train
    assert min(float(train[i]["loss_mask"].min()) for i in range(100)) == 0
    assert not any(bool((train[i]["labels"] == 7).any()) for i in range(100))


def test_a_corpus_of_few_tokens_is_repeated(tmp_path: Path, group: None) -> None:
    blend = write_corpus(tmp_path / "corpus", {"docs": Source(10, 30, 1.0)})
    assert len(build(blend, tmp_path, "evaluation.batches=0").train) >= 336


# Order


def test_order_is_the_same_from_the_index_and_without_it(blend: Path, tmp_path: Path, group: None) -> None:
    first, again = build(blend, tmp_path / "one"), build(blend, tmp_path / "one")
    elsewhere = build(blend, tmp_path / "two", f"data.index_cache={tmp_path / 'shared'}")
    assert digest(first.train, 336) == digest(again.train, 336) == digest(elsewhere.train, 336)
    for source in TWO:
        assert digest(first.valid[source], 32) == digest(elsewhere.valid[source], 32)
    assert list((tmp_path / "one").iterdir()) == [tmp_path / "one" / "data_index"]
    assert not (tmp_path / "two").exists()


def test_order_does_not_depend_on_layout_micro_batch_or_ramp(blend: Path, tmp_path: Path, group: None) -> None:
    changes = (
        "parallel={tensor: 2, pipeline: 2, interleave: 2}",
        "batch={micro: 1, global: 16}",
        "batch.ramp={start: 3, increment: 13, tokens: 640, rounding: up}",
        "evaluation.batches=1",
    )
    expected = digest(build(blend, tmp_path / "base").train, 336)
    for i, change in enumerate(changes):
        assert digest(build(blend, tmp_path / str(i), change).train, 336) == expected, change


def test_order_depends_on_seed_split_and_length(blend: Path, tmp_path: Path, group: None) -> None:
    changes = ("seed=5", "data.split=[0.8, 0.2]", "schedule.train_tokens=102400")
    digests = {digest(build(blend, tmp_path / str(i), c).train, 300) for i, c in enumerate(changes)}
    assert len(digests | {digest(build(blend, tmp_path / "base").train, 300)}) == 4


def test_a_seed_beyond_numpys_range_works(blend: Path, tmp_path: Path, group: None) -> None:
    assert len(build(blend, tmp_path, f"seed={2**40}").train) == 336


def test_a_corpus_prepared_anew_in_place_gets_its_own_index(tmp_path: Path, group: None) -> None:
    """Megatron-core's own index names hold the path only, so it would go on with the old corpus's order."""
    blend = write_corpus(tmp_path / "corpus")
    build(blend, tmp_path)
    shutil.rmtree(tmp_path / "corpus")
    write_corpus(tmp_path / "corpus", {"docs": Source(40, 60, 0.7), "code": Source(50, 60, 0.3)})
    fresh = build(blend, tmp_path / "fresh")
    assert digest(build(blend, tmp_path).train, 300) == digest(fresh.train, 300)


@settings(max_examples=40, deadline=None)
@given(weights=st.lists(st.floats(0.001, 1000), min_size=2, max_size=12), size=st.integers(1, 3000))
def test_a_source_never_gives_more_than_was_built(weights: list[float], size: int) -> None:
    """The bound that _open relies on: at most one sample beyond the share."""
    from megatron.core.datasets import helpers

    shares = [w / sum(weights) for w in weights]
    source, sample = np.zeros(size, np.int16), np.zeros(size, np.int64)
    helpers.build_blending_indices(source, sample, shares, len(shares), size, False)
    counts = np.bincount(source, minlength=len(shares))
    assert all(count <= int(np.ceil(share * size)) + 1 for count, share in zip(counts, shares, strict=True))


# Many ranks


def _digests(blend: Path, folder: Path) -> tuple[int, str, str]:
    built = build(blend, folder)
    return dist.get_rank(), digest(built.train, 336), digest(built.valid["docs"], 32)


def _message(blend: Path, folder: Path, *overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        build(blend, folder, *overrides)
    return str(caught.value)


def test_all_ranks_read_the_same(world: Any, blend: Path, tmp_path: Path) -> None:
    answers = world.run(4, _digests, blend, tmp_path)
    assert [answer[0] for answer in answers] == [0, 1, 2, 3]
    assert len({answer[1:] for answer in answers}) == 1


def test_all_ranks_learn_why_rank_0_failed(world: Any, blend: Path, tmp_path: Path) -> None:
    messages = world.run(4, _message, blend, tmp_path, "model.vocab_size=300")
    assert len(set(messages)) == 1
    assert "300" in messages[0]


# Bad input


def test_vocabulary_that_does_not_match(blend: Path, tmp_path: Path, group: None) -> None:
    with pytest.raises(
        InputError,
        match=rf"model\.vocab_size: 300 in the run config, but the tokenizer of {re.escape(str(blend))} has 250 "
        r"entries; set model\.vocab_size=250",
    ):
        build(blend, tmp_path, "model.vocab_size=300")


def test_no_blend(tmp_path: Path, group: None) -> None:
    with pytest.raises(InputError, match=r"data\.blend: is required to train"):
        build_datasets(tiny(), tmp_path)
    with pytest.raises(InputError, match=r"nowhere/blend\.yaml: no such file"):
        build(tmp_path / "nowhere" / "blend.yaml", tmp_path)


def test_truncated_tokens(tmp_path: Path, group: None) -> None:
    blend = write_corpus(tmp_path / "corpus")
    os.truncate(tmp_path / "corpus" / "tokens" / "code.bin", 100)
    with pytest.raises(InputError, match=r"code\.bin: truncated: code\.idx asks for \d+ bytes, found 100"):
        build(blend, tmp_path)


def test_every_source_that_is_too_small_is_named(tmp_path: Path, group: None) -> None:
    sources = {"one": Source(1, 500, 1.0), "short": Source(50, 5, 1.0), "fine": Source(100, 60, 1.0)}
    blend = write_corpus(tmp_path / "corpus", sources)
    with pytest.raises(InputError) as caught:
        build(blend, tmp_path)
    text = str(caught.value)
    assert "2 problems" in text
    assert "sources.0 (one): data.split [0.9, 0.1] gives 0 of 1 documents with 0 tokens to validation" in text
    assert re.search(r"sources\.1 \(short\): .* gives 5 of 50 documents with \d\d tokens to validation, and one", text)
    assert "evaluation.batches to 0" in text
    assert not (tmp_path / "data_index").exists()
    assert build(blend, tmp_path, "evaluation.batches=0").valid == {}


def test_a_source_without_text_to_train_on(tmp_path: Path, group: None) -> None:
    blend = write_corpus(tmp_path / "corpus", {"docs": Source(3, 4, 1.0)})
    with pytest.raises(InputError, match=r"tokens to training, and one sample .* takes 33; raise the first share"):
        build(blend, tmp_path, "evaluation.batches=0")


# The index folder


def test_a_file_where_the_index_folder_should_be(blend: Path, tmp_path: Path, group: None) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"data\.index_cache: .*set data\.index_cache to a folder that can be written"):
        build(blend, tmp_path, f"data.index_cache={tmp_path / 'file'}")


def test_a_read_only_folder(blend: Path, tmp_path: Path, group: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *args: Any, **options: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(InputError, match="Read-only file system; set data"):
        build(blend, tmp_path)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), OSError("5 requested, 3 written")])
def test_a_full_disk(blend: Path, tmp_path: Path, group: None, monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    """numpy says of a full disk how much it wrote, without an errno."""
    save, calls = np.save, []

    def fail(*args: Any, **options: Any) -> None:
        calls.append(args)
        if len(calls) == 4:
            raise error
        save(*args, **options)

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(MegatronNlgError, match="free some space") as caught:
        build(blend, tmp_path)
    assert caught.value.exit_code == 1
    assert list((tmp_path / "data_index").iterdir()) == []
    monkeypatch.undo()
    assert len(build(blend, tmp_path).train) == 336


BUILD_SLOWLY = """
import sys, time
from pathlib import Path
import numpy as np
from tests.megatron_nlg.data.corpus import alone
from tests.megatron_nlg.data.test_datasets import build
save = np.save
def slowly(path, array, **options):
    with open(path, "wb") as file:  # the first half, then a long pause
        file.write(b"half")
    print("half", flush=True)
    time.sleep(60)
np.save = slowly
with alone():
    build(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_build_that_is_killed_leaves_nothing_that_counts(blend: Path, tmp_path: Path, group: None) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD_SLOWLY, str(blend), str(tmp_path)],
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stdout.readline() == b"half\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = list((tmp_path / "data_index").iterdir())
    assert len(left) == 1
    assert left[0].name.startswith(".")
    time.sleep(0.01)
    assert digest(build(blend, tmp_path).train, 336) == digest(build(blend, tmp_path / "other").train, 336)
    assert [p.name.startswith(".") for p in (tmp_path / "data_index").iterdir()] == [False]
