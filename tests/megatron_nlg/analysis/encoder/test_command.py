"""`analyze encoder`: learns, goes on to the digit, and is what transformers reads."""

from __future__ import annotations

import errno
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from megatron_nlg.analysis.encoder import command as command_module
from megatron_nlg.analysis.encoder import model as encoders
from megatron_nlg.analysis.encoder.shape import Shape
from megatron_nlg.analysis.encoder.training import METRICS, STATE, EncoderTraining, encode_texts
from megatron_nlg.cli import parse
from megatron_nlg.config.dump import to_yaml
from megatron_nlg.config.errors import InputError, MegatronNlgError
from megatron_nlg.config.validate import load_config
from megatron_nlg.data.labelled import read_sets, with_epochs
from megatron_nlg.data.tokenizer import classifier_tokenizer
from tests.data_prep import crash
from tests.megatron_nlg.analysis.models import write_bert
from tests.megatron_nlg.data.texts import write_texts
from tests.tiny import tiny

SHAPE = ("--shape", "1,32,2", "--vocabulary", "300")


def write_config(folder: Path, *overrides: str) -> Path:
    """Texts, and a config that trains on them for four epochs of 15 steps."""
    base = write_texts(folder, train=240)
    config = tiny(*base, "data.classification.epochs=4", "optimizer.lr=5e-3", "model.dropout=0.1", *overrides)
    (folder / "config.yaml").write_text(to_yaml(config))
    return folder / "config.yaml"


def run(*arguments: str | Path) -> int:
    """Exit code of the command, in this process."""
    argv = ["analyze", "encoder", *map(str, arguments)]
    return command_module.run(parse("analyze", argv))


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def test_a_planted_rule_is_learned_and_a_killed_run_goes_on_to_the_digit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, "checkpoint.interval=4")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run(config, *SHAPE, "--out", whole) == 0
    found = rows(whole)
    scores = [row for row in found if row.get("split") == "valid"]
    assert [row["step"] for row in scores] == [15, 30, 45, 60]  # after every epoch of 240 texts
    assert (scores[-1]["accuracy"], scores[-1]["f1"], scores[-1]["examples"]) == (1.0, 1.0, 37)
    assert "accuracy 1.0000, F1 1.0000" in capsys.readouterr().out

    # Renames: which settings, then rows and state of steps 4, 8, … Killed between the two, then before both.
    for number, steps in ((5, 8), (3, 8)):
        assert crash.at_rename(number, "analyze", "encoder", config, *SHAPE, "--out", cut) == 137
        assert rows(cut) == found[:steps] and not (cut / "model").exists()
    assert run(config, *SHAPE, "--out", cut) == 0
    assert rows(cut) == found

    # What transformers makes of the folder: the same scores, text by text, without padding.
    model = AutoModelForSequenceClassification.from_pretrained(whole / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(whole / "model")
    texts = read_sets(load_config(config))[1]
    with torch.inference_mode():
        logits = torch.cat([model(**tokenizer(text, return_tensors="pt")).logits for text in texts.texts])
    loss = torch.nn.functional.cross_entropy(logits.double(), torch.tensor(texts.classes))
    assert float(loss) == pytest.approx(scores[-1]["loss"], rel=1e-5)  # fp32 sums of padded batches
    assert model.config.id2label == {0: "0", 1: "1"}

    # The folder is for these settings, and for a state that is whole.
    assert run(config, *SHAPE, "--out", whole) == 0
    with pytest.raises(InputError, match="was made with another optimizer"):
        run(config, "optimizer.lr=1e-4", *SHAPE, "--out", whole)
    shutil.rmtree(whole / "model")
    lines = (whole / METRICS).read_text()
    (whole / METRICS).write_text(lines[:-10])
    with pytest.raises(InputError, match=f"{METRICS}: can't be read: .* remove"):
        run(config, *SHAPE, "--out", whole)
    (whole / METRICS).write_text(lines)
    (whole / STATE).write_bytes((whole / STATE).read_bytes()[:1000])
    with pytest.raises(InputError, match=f"{STATE}: can't be read: .* remove it"):
        run(config, *SHAPE, "--out", whole)


def test_a_full_disk_is_said_and_nothing_half_written_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    config = write_config(tmp_path, "checkpoint.interval=1")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(MegatronNlgError, match=f"{STATE}: No space left on device; nothing half-written is left"):
        run(config, *SHAPE, "--out", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {METRICS, "encoder.json"}


def test_a_folders_weights_are_where_it_starts_from(tmp_path: Path) -> None:
    bert = write_bert(tmp_path)
    model = encoders.read_encoder(tmp_path / "bert", ["no", "yes", "maybe"])
    assert model.classifier.out_features == 3
    for name, part in bert.named_parameters():
        assert torch.equal(model.bert.get_parameter(name), part), name
    for file in (tmp_path / "bert").glob("*.safetensors"):
        file.unlink()
    random = encoders.read_encoder(tmp_path / "bert", ["no", "yes"])
    assert random.config.num_hidden_layers == 3


def test_micro_batches_change_nothing(tmp_path: Path) -> None:
    """Padding and accumulation: the losses of a few steps are equal to 1e-5 (fp32 sums in another order)."""
    base = write_texts(tmp_path)
    curves = []
    for micro in (2, 16):
        config = with_epochs(tiny(*base, f"batch.micro={micro}", "data.classification.epochs=1"))
        settings = config.data.classification
        assert settings
        texts = read_sets(config)
        shape = Shape.of("1,32,2", 300)
        own = classifier_tokenizer(config, tmp_path)
        tokenizer = encoders.new_tokenizer(shape, own, texts[0].texts)
        torch.manual_seed(0)
        model = encoders.new_encoder(shape, tokenizer, settings.labels, settings.max_length, dropout=0.0)
        train, valid = (encode_texts(part, tokenizer, settings.max_length) for part in texts)
        folder = tmp_path / str(micro)
        folder.mkdir()
        last = EncoderTraining(config, model, (train, valid), tokenizer.pad_token_id, folder).train(lambda row: None)
        curves.append([row["loss"] for row in rows(folder)] + [last["loss"]])
    assert curves[0] == pytest.approx(curves[1], rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--shape", "4,256"), "--shape 4,256: write LAYERS,HIDDEN,HEADS, as in 4,256,4"),
        (("--shape", "4,256,3"), "--shape 4,256,3: all above 0, and HEADS must divide HIDDEN"),
        (("--shape", "4,256,4"), "the classifier's tokenizer, of kind char, can't be an encoder's; --vocabulary N"),
        (("--from", "{0}"), "{0}: no tokenizer can be read"),
        (("--from", "{0}/bert"), "data.classification.max_length: 32 is above the 24 positions of {0}/bert"),
        (("precision=fp16", *SHAPE), "precision is fp16"),
        (("data.classification.cut=start", *SHAPE), "data.classification.cut=start means nothing to an encoder"),
    ],
)
def test_what_can_not_be_trained(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    write_config(tmp_path)
    if "/bert" in arguments[1]:
        write_bert(tmp_path)
    given = [word.format(tmp_path) for word in arguments]
    with pytest.raises(InputError, match=re.escape(message.format(tmp_path))):
        run(tmp_path / "config.yaml", *given, "--out", tmp_path / "out")
