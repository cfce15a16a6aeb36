"""Representations of a set: those of the model's spans; what is too long for the model is left out."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from megatron_nlg.analysis.huggingface import HuggingFaceBlocks
from megatron_nlg.analysis.probing import features
from megatron_nlg.analysis.probing.example import ProbingSet, of_two
from megatron_nlg.config.errors import InputError
from megatron_nlg.parallel.supervisor import Terminal
from tests.megatron_nlg.analysis.models import write_bert

QUIET = Terminal(io.StringIO(), io.StringIO())


def a_set(long: int) -> ProbingSet:
    """60 pairs, so many of them longer than 24 tokens."""
    first = ["bad " * (30 if i < long else 1 + i % 3) for i in range(60)]
    examples = [of_two(f"{text}film", "a good film", i % 2, "x", (2, 6)) for i, text in enumerate(first)]
    return ProbingSet("pairs", ("no", "yes"), examples, "")


def test_spans_of_what_fits(tmp_path: Path) -> None:
    model = write_bert(tmp_path, layers=1)
    some, blocks = a_set(10), HuggingFaceBlocks(tmp_path / "bert")
    features._task("bert", [some], tmp_path, blocks, QUIET)
    found = features.load(some, tmp_path)
    assert found.values.shape == (2, 50, 2, 16) and found.labels.tolist() == [i % 2 for i in range(10, 60)]
    words = blocks.tokenizer(some.examples[10].text, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**words, output_hidden_states=True).hidden_states
    passage = len(some.examples[10].text.split("\n")[0].split())
    for layer, states in enumerate(hidden):
        np.testing.assert_allclose(found.values[layer, 0, 0], states[0, 1 : 1 + passage].mean(0), atol=1e-5)
        np.testing.assert_allclose(found.values[layer, 0, 1], states[0, 2 + passage], atol=1e-5)  # "good"

    before = (tmp_path / "pairs.npy").stat().st_mtime_ns
    features._task("bert", [some], tmp_path, blocks, QUIET)
    assert (tmp_path / "pairs.npy").stat().st_mtime_ns == before
    features._task("bert", [a_set(5)], tmp_path, blocks, QUIET)
    assert len(features.load(a_set(5), tmp_path).labels) == 55
    with pytest.raises(InputError, match=r"40 of 60 examples of pairs fit into its 24 tokens; lower --passage-words"):
        features._task("bert", [a_set(20)], tmp_path, blocks, QUIET)
