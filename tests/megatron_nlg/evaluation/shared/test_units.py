"""Units in every layout, gone on with after a kill: the same rows, none made twice."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from data_prep.tokenizer import CharacterTokenizer
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.data.tokenizer import run_tokenizer
from megatron_nlg.evaluation.shared.units import Prompt, Unit, continue_prompts, score_units, tokens_of
from megatron_nlg.generation.generator import Generator
from megatron_nlg.generation.ledger import Ledger
from megatron_nlg.generation.sampling import Sampling
from megatron_nlg.parallel.supervisor import Terminal
from tests.megatron_nlg.evaluation.ascii_run import layout
from tests.world import World

JOB = {"study": "test"}
UNITS = [
    Unit(f"u/{n}", ((f"The {n} was a", " man"), (f"The {n} was a", " woman"), ("", f"A {n}.")), {"name": n})
    for n in ("baker", "pilot", "very old and tired judge", "nurse", "cook")
]
PROMPTS = [Prompt(f"p/{i}", text, 7 + i) for i, text in enumerate(("He was", "She was", "They", "It"))]


def worked(config: RunConfig, run: Path, folder: Path, step: int | None = None) -> tuple[Any, Any]:
    """Rows of both kinds of work, as a rank makes them."""
    generator = Generator(config, run, run_tokenizer(config, run), step)
    scores, samples = Ledger(folder / "scores.jsonl", JOB), Ledger(folder / "samples.jsonl", JOB)
    terminal = Terminal(sys.stdout, sys.stderr)
    score_units(UNITS, scores, generator, terminal)
    continue_prompts(PROMPTS, Sampling(max_tokens=8), 2, samples, generator, terminal)
    return scores.rows(), samples.rows()


def test_every_layout_makes_the_same_rows(world: World, ascii_run: Path, tmp_path: Path) -> None:
    found = {}
    for ranks, overrides in ((1, ""), (2, "parallel.tensor=2"), (2, "parallel.pipeline=2")):
        folder = tmp_path / (overrides or "one")
        folder.mkdir()
        [found[overrides], *others] = world.run(ranks, worked, layout(ascii_run, *overrides.split()), ascii_run, folder)
        assert others == [found[overrides]] * (ranks - 1)
        assert len((folder / "scores.jsonl").read_text().splitlines()) == 6
    scores, samples = found.pop("")
    assert list(scores) == [u.key for u in UNITS] and list(samples) == [p.key for p in PROMPTS]
    assert scores["u/baker"]["name"] == "baker" and scores["u/baker"]["tokens"] == [4, 6, 8]
    assert all(total < 0 for row in scores.values() for total in row["logprobs"])
    for other_scores, other_samples in found.values():
        assert other_samples == samples
        for key, row in scores.items():
            assert other_scores[key]["logprobs"] == pytest.approx(row["logprobs"], abs=1e-4)


def test_what_is_there_is_not_made_again(world: World, ascii_run: Path, tmp_path: Path) -> None:
    """Planted rows stay as they are, a torn one goes; samples are those of an undisturbed job."""
    config = layout(ascii_run)
    [(scores, samples)] = world.run(1, worked, config, ascii_run, tmp_path)
    whole = (tmp_path / "samples.jsonl").read_bytes()
    again = tmp_path / "again"
    again.mkdir()
    for name, row in (("scores", {"key": "u/pilot", "planted": 1}), ("samples", samples["p/2"])):
        ledger = Ledger(again / f"{name}.jsonl", JOB)
        ledger.open()
        ledger.append(row)
        with ledger.partial.open("ab") as torn:
            torn.write(b'{"key": "u/coo')
    [(found, _)] = world.run(1, worked, config, ascii_run, again)
    assert found["u/pilot"] == {"key": "u/pilot", "planted": 1}
    assert found["u/cook"]["logprobs"] == pytest.approx(scores["u/cook"]["logprobs"], abs=1e-4)
    assert (again / "samples.jsonl").read_bytes() == whole and len(list(again.iterdir())) == 2


def test_another_checkpoint_gives_other_rows(world: World, ascii_run: Path, tmp_path: Path) -> None:
    rows = []
    for step in (1, 2):
        folder = tmp_path / str(step)
        folder.mkdir()
        [(scores, _)] = world.run(1, worked, layout(ascii_run), ascii_run, folder, step)
        rows.append(scores)
    assert rows[0] != rows[1]


def test_tokens_are_those_of_the_joined_text() -> None:
    tokenizer = CharacterTokenizer(" abc")
    assert tokens_of(tokenizer, "ab", " c") == ([1, 2], [0, 3])
    assert tokens_of(tokenizer, "ab ", "c") == ([1, 2], [0, 3])  # the space is the continuation's
    assert tokens_of(tokenizer, "", "ab") == ([tokenizer.eod], [1, 2])
