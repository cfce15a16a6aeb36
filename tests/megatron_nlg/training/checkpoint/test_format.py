from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.corruption import corrupt, example
from megatron_nlg.config.errors import InputError
from megatron_nlg.config.schema import Checkpoint
from megatron_nlg.parallel.context import ParallelContext
from megatron_nlg.training.checkpoint.format import (
    FORMAT,
    MANIFEST,
    MIGRATIONS,
    Progress,
    candidates,
    kept,
    locate,
    model_identity,
    problems_of,
    read_manifest,
    read_progress,
)
from megatron_nlg.training.checkpoint.store import Checkpoints
from megatron_nlg.training.engine import Engine
from tests.megatron_nlg.training.checkpoint.fixtures.make import HERE, MORE, SETTINGS, STEPS, steps
from tests.tiny import tiny
from tests.world import World


def unpacked(version: int, folder: Path) -> Path:
    """A stored checkpoint of an earlier format; returns the folder of checkpoints."""
    with zipfile.ZipFile(HERE / f"format_{version}.zip") as archive:
        archive.extractall(folder)
    return folder


def go_on(folder: Path, overrides: tuple[str, ...]) -> list[float]:
    """Losses of the steps after a checkpoint."""
    config = tiny(*SETTINGS, *overrides)
    context = ParallelContext.create(config)
    engine = Engine(config, context)
    checkpoints = Checkpoints(folder, Checkpoint(), context)
    progress, damaged = checkpoints.load(engine, model_identity(config))
    assert (progress.step, progress.consumed_samples, damaged) == (STEPS, 4 * STEPS, [])
    return steps(engine, config, context, STEPS, MORE)


@pytest.mark.parametrize("version", range(1, FORMAT + 1))
@pytest.mark.parametrize("overrides", [(), ("parallel.zero_stage=3", "parallel.tensor=2")])
def test_checkpoints_of_every_format_are_read(
    world: World, tmp_path: Path, version: int, overrides: tuple[str, ...]
) -> None:
    folder = unpacked(version, tmp_path)
    want = json.loads((HERE / f"format_{version}.json").read_text())["losses"]
    ranks = 4 if overrides else 1
    for got in world.run(ranks, go_on, folder, overrides):
        assert got == pytest.approx(want, rel=1e-6)


def test_every_older_format_has_a_migration_and_a_fixture() -> None:
    assert sorted(MIGRATIONS) == list(range(1, FORMAT))
    assert sorted(HERE.glob("format_*.zip")) == [HERE / f"format_{n}.zip" for n in range(1, FORMAT + 1)]


def test_manifest_of_format_2_says_what_it_holds(tmp_path: Path) -> None:
    (folder,) = candidates(unpacked(2, tmp_path))
    manifest = read_manifest(folder)
    assert manifest.written_by["tensor"] == 2 and manifest.written_by["data"] == 2
    assert manifest.parameters["embedding.word_embeddings.weight"] == [32, 8]
    assert manifest.bytes == sum(f.stat().st_size for f in folder.iterdir() if f.name != MANIFEST)
    assert read_progress(folder).tokens == 4 * STEPS * 8


def test_later_format_is_named(tmp_path: Path) -> None:
    (folder,) = candidates(unpacked(2, tmp_path))
    manifest = json.loads((folder / MANIFEST).read_text()) | {"format": FORMAT + 1}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    assert problems_of(folder) == [f"format {FORMAT + 1}, and this version reads formats 1 to {FORMAT}"]


def test_damage_of_every_kind_is_found(tmp_path: Path) -> None:
    whole = example(tmp_path / "whole")
    for seed in range(70):
        copy = tmp_path / "copy"
        shutil.copytree(whole, copy)
        what = corrupt(copy, seed)
        assert problems_of(copy), what
        shutil.rmtree(copy)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = ("format", "files", "contents", "parameters", "written_by")


@given(st.dictionaries(st.sampled_from(KEYS), JSON) | JSON)
def test_broken_manifest_is_an_input_error(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    folder = tmp_path_factory.mktemp("manifest")
    (folder / MANIFEST).write_text(json.dumps(value))
    try:
        manifest = read_manifest(folder)
    except InputError:
        return
    assert asdict(manifest)["format"] in range(1, FORMAT + 1)


@given(st.sets(st.integers(0, 60)), st.integers(1, 4), st.integers(0, 9))
def test_retention(steps: set[int], last: int, every: int) -> None:
    reasons = kept(list(steps), last, every)
    want = set(sorted(steps)[-last:]) | {step for step in steps if every and step % every == 0}
    assert set(reasons) == want


def test_locate(tmp_path: Path) -> None:
    run = tmp_path / "run"
    unpacked(2, run / "checkpoints")
    step = run / "checkpoints" / "step_00000003"
    assert locate(run) == locate(run / "checkpoints") == locate(step) == [step]
    with pytest.raises(InputError, match="holds no checkpoint"):
        locate(tmp_path)


def test_every_byte_counts(tmp_path: Path) -> None:
    (folder,) = candidates(unpacked(2, tmp_path))
    generator = torch.Generator().manual_seed(0)
    for name in read_manifest(folder).files:
        path = folder / name
        data = path.read_bytes()
        for _ in range(5):
            at = int(torch.randint(len(data), (), generator=generator))
            path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
            assert problems_of(folder) == [f"{name} is not what was written (checksum)"]
            path.write_bytes(data[:at])
            assert problems_of(folder) == [f"{name} has {at} bytes instead of {len(data)}"]
        path.unlink()
        assert problems_of(folder) == [f"{name} is missing"]
        path.write_bytes(data)
    assert problems_of(folder) == []


def test_tokens_are_those_that_were_trained_on() -> None:
    identity = {"model.sequence_length": 32}
    assert Progress(consumed_samples=10, identity=identity).tokens == 320
    warmup = {"schedule.sequence_warmup": {"start": 16, "multiple": 16, "tokens": 64}}
    assert Progress(consumed_samples=10, identity=identity | warmup).tokens == 4 * 16 + 6 * 32
    assert Progress(consumed_samples=10).tokens == 0
