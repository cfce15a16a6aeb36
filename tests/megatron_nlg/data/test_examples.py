from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_prep.tokenizer import CharacterTokenizer
from megatron_nlg.config.dump import to_yaml
from megatron_nlg.config.errors import InputError
from megatron_nlg.config.schema import Classification
from megatron_nlg.data.examples import Examples, encode, prepare_examples
from megatron_nlg.data.labelled import Texts
from megatron_nlg.data.loader import Loader
from megatron_nlg.data.tokenizer import TOKENIZER, classifier_tokenizer
from megatron_nlg.training.schedule import FixedBatches
from tests.megatron_nlg.data.texts import LETTERS, write_texts
from tests.tiny import tiny

TOKENS = CharacterTokenizer(LETTERS)
texts = st.lists(st.tuples(st.text("abc ", min_size=1, max_size=40), st.integers(0, 2)), min_size=1, max_size=12)


def settings(cut: str = "end", max_length: int = 24) -> Classification:
    tree = {"train": "x", "labels": ["a", "b", "c"], "max_length": max_length, "cut": cut}
    return Classification.model_validate(tree)


def rows(found: list[tuple[str, int]]) -> Texts:
    return Texts([text for text, _ in found], [label for _, label in found], [f"x:{i}" for i in range(len(found))])


@given(texts, st.sampled_from(["end", "start"]))
def test_a_sample_is_a_text_with_its_class_at_the_last_token(found: list[tuple[str, int]], cut: str) -> None:
    encoded = encode(rows(found), TOKENS, settings(cut))
    assert encoded.truncated == sum(len(text) > 24 for text, _ in found)
    examples = Examples(encoded, 24, TOKENS.eod)
    for number, (text, label) in enumerate(found):
        kept = text[:24] if cut == "end" else text[-24:]
        sample, last = examples[number], len(kept) - 1
        assert TOKENS.decode(sample["tokens"][: last + 1].tolist()) == kept
        assert set(sample["tokens"][last + 1 :].tolist()) <= {TOKENS.eod}
        assert sample["loss_mask"].nonzero().tolist() == [[last]] and sample["labels"][last] == label
    assert examples[len(found)]["loss_mask"].sum() == 0


@given(st.integers(1, 20), st.integers(0, 3), st.integers(0, 99))
def test_every_pass_takes_every_text_once_in_its_own_order(count: int, epoch: int, seed: int) -> None:
    examples = Examples(encode(rows([("ab", 0)] * count), TOKENS, settings()), 24, TOKENS.eod, seed=seed)
    numbers = [examples.number(epoch * count + place) for place in range(count)]
    assert sorted(n for n in numbers if n is not None) == list(range(count))
    assert numbers == [examples.number(epoch * count + place) for place in range(count)]


def test_orders_differ_by_pass_and_seed() -> None:
    encoded = encode(rows([("ab", 0)] * 50), TOKENS, settings())
    one, two = (Examples(encoded, 24, TOKENS.eod, seed=seed) for seed in (1, 2))
    orders = [[e.number(first + i) for i in range(50)] for e, first in ((one, 0), (one, 50), (two, 0))]
    assert orders[0] != orders[1] and orders[0] != orders[2]


@given(texts, st.sampled_from([1, 2, 8]))
def test_a_step_is_padded_to_its_longest_text_on_every_replica(found: list[tuple[str, int]], replicas: int) -> None:
    examples = Examples(encode(rows(found), TOKENS, settings()), 24, TOKENS.eod, multiple=4, seed=0)
    loaders = [
        Loader(
            examples,
            FixedBatches(8, 2),
            micro_batch=1,
            data_rank=rank,
            data_size=replicas,
            padded_length=examples.padded_length,
        )
        for rank in range(replicas)
    ]
    for step in range(2):
        parts = [part for loader in loaders for part in loader.next().micro_batches]
        lengths = {part["tokens"].shape[1] for part in parts}
        numbers = [examples.number(8 * step + i) for i in range(8)]
        longest = max(min(24, len(found[n][0])) for n in numbers if n is not None)
        assert lengths == {-(-longest // 8) * 8}
        assert all(part["loss_mask"].sum() == 1 for part in parts)
    for loader in loaders:
        loader.close()


def test_a_run_keeps_its_tokenizer(tmp_path: Path) -> None:
    base = write_texts(tmp_path)
    run = tmp_path / "run"
    run.mkdir()
    sets = prepare_examples(tiny(*base), run)
    assert [path.name for path in run.iterdir()] == [TOKENIZER]
    alone = tiny(*base, "data.classification.tokenizer=null")
    assert classifier_tokenizer(alone, run).identity == sets.identity["tokenizer"]
    assert prepare_examples(alone, run).identity == sets.identity
    with pytest.raises(InputError, match=r"data\.classification\.tokenizer: is not set, and there is no run"):
        classifier_tokenizer(alone, tmp_path / "other")
    with pytest.raises(InputError, match=r"model\.vocab_size: 20, and the tokenizer has 28 entries"):
        classifier_tokenizer(tiny(*base, "model.vocab_size=20"), tmp_path / "other")


def test_the_tokenizer_of_the_loaded_run_is_taken_and_no_other(tmp_path: Path) -> None:
    base = write_texts(tmp_path)
    run = tmp_path / "loaded"
    (run / TOKENIZER).mkdir(parents=True)
    other = CharacterTokenizer("abc")
    other.save(run / TOKENIZER)
    (run / "config.yaml").write_text(to_yaml(tiny()))
    load = f"checkpoint.load_from={run}"
    found = classifier_tokenizer(tiny(*base, load, "data.classification.tokenizer=null"), tmp_path / "new")
    assert found.identity == other.identity
    with pytest.raises(InputError, match=r"the weights of checkpoint\.load_from were trained with sha256"):
        classifier_tokenizer(tiny(*base, load), tmp_path / "new")


def test_other_texts_are_another_identity(tmp_path: Path) -> None:
    base = write_texts(tmp_path)
    before = prepare_examples(tiny(*base), tmp_path).identity
    lines = (tmp_path / "train.tsv").read_text().splitlines()
    (tmp_path / "train.tsv").write_text("\n".join([lines[0], lines[2], lines[1], *lines[3:]]) + "\n")
    after = prepare_examples(tiny(*base), tmp_path).identity
    assert [key for key in before if before[key] != after[key]] == ["training examples"]


def test_samples_are_what_the_engine_expects() -> None:
    sample = Examples(encode(rows([("ab", 1)]), TOKENS, settings()), 24, TOKENS.eod)[0]
    assert {key: value.dtype for key, value in sample.items()} == {
        "tokens": torch.int64,
        "labels": torch.int64,
        "loss_mask": torch.float32,
    }
