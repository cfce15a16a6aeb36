"""Folders of transformers, encoders and decoders, behind the same interface."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, RobertaConfig, RobertaForSequenceClassification

from megatron_nlg.analysis.huggingface import HuggingFaceBlocks
from megatron_nlg.analysis.representations import collect
from megatron_nlg.config.errors import InputError
from tests.megatron_nlg.analysis.models import TEXTS, write_bert, write_gpt2


def test_an_encoder(tmp_path: Path) -> None:
    theirs = write_bert(tmp_path)
    model = HuggingFaceBlocks(tmp_path / "bert")
    assert (model.layers, model.hidden_size, model.max_length, model.summary) == (4, 16, 24, "first")
    marks = {2: [(0, 2)]}
    found = [model.prepare(text, ("first", "mean"), marks.get(number, ())) for number, text in enumerate(TEXTS)]
    whole = [each for each in found if each]
    values = collect(model, whole, batch_tokens=20)
    assert values is not None
    want = []
    for each, text in zip(whole, TEXTS, strict=True):
        asked = model.tokenizer(text, return_tensors="pt")
        if len(each.spans) == 2:
            assert asked["input_ids"].tolist() == [each.tokens]
        with torch.no_grad():
            hidden = torch.cat(theirs(torch.tensor([each.tokens]), output_hidden_states=True).hidden_states)
        want += [hidden[:, begin:end].mean(dim=1).numpy() for begin, end in each.spans]
    np.testing.assert_allclose(values, np.stack(want, axis=1), rtol=1e-5, atol=1e-5)


def test_heads_of_classifiers(tmp_path: Path) -> None:
    """The logits of transformers from what was read of the last layer."""
    write_bert(tmp_path)
    labels = {"id2label": {0: "bad", 1: "good", 2: "odd"}, "label2id": {"bad": 0, "good": 1, "odd": 2}}
    for kind, config in (
        (BertForSequenceClassification, BertConfig.from_pretrained(tmp_path / "bert", **labels)),
        (
            RobertaForSequenceClassification,
            RobertaConfig(**{**BertConfig.from_pretrained(tmp_path / "bert").to_dict(), **labels, "pad_token_id": 0}),
        ),
    ):
        theirs = kind(config).eval()
        theirs.save_pretrained(tmp_path / "bert")
        model = HuggingFaceBlocks(tmp_path / "bert")
        head, inputs = model.head(), [model.prepare(text, (model.summary,)) for text in TEXTS]
        values = collect(model, [each for each in inputs if each])
        assert head is not None and values is not None
        assert head.labels == ("bad", "good", "odd")
        for text, got in zip(TEXTS, head(values[-1]), strict=True):
            with torch.no_grad():
                want = theirs(**model.tokenizer(text, return_tensors="pt", return_token_type_ids=False)).logits[0]
            np.testing.assert_allclose(got, want.numpy(), rtol=1e-4, atol=1e-5)


def test_a_decoder(tmp_path: Path) -> None:
    write_gpt2(tmp_path)
    model = HuggingFaceBlocks(tmp_path / "gpt2")
    assert model.head() is None
    assert (model.layers, model.summary, list(model.before), list(model.after)) == (5, "last", [], [])


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"can't be read: .*; name a folder that transformers"):
        HuggingFaceBlocks(tmp_path)
