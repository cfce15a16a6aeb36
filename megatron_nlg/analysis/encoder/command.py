"""`megatron-nlg analyze encoder`: fine-tune an encoder of transformers on the texts of a classifier's run."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megatron_nlg.config.errors import InputError

if TYPE_CHECKING:
    from megatron_nlg.config.schema import RunConfig

IDENTITY, MODEL = "encoder.json", "model"
SAY_SECONDS = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder, or config file, of a classifier")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="other settings, such as optimizer.lr=1e-4")
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("--from", type=Path, dest="start", metavar="FOLDER", help="an encoder in transformers' format")
    start.add_argument("--shape", metavar="L,H,A", help="a new BERT: layers, hidden size, heads")
    parser.add_argument("--vocabulary", type=int, metavar="N", help="a tokenizer learned from the texts")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="gets model/, for other commands")
    parser.epilog = (
        "texts, their order, batches, schedule and optimizer are the classifier's; one process, one GPU where there is "
        "one; the same command goes on after a kill"
    )


def run(args: argparse.Namespace) -> int:
    """Train; returns the exit code."""
    from data_prep.files import make_folder
    from megatron_nlg.analysis.encoder.shape import Shape
    from megatron_nlg.config.validate import load_config
    from megatron_nlg.data.labelled import with_epochs
    from megatron_nlg.parallel import supervisor

    path = args.run / "config.yaml" if args.run.is_dir() else args.run
    if not path.is_file():
        raise InputError(f"{path}: no such file; name the run folder of a classifier, or its config")
    config = load_config(path, ["schedule.train_tokens=0", *args.overrides])
    if config.data.classification is None:
        raise InputError(f"{path}: is no classifier's (task: classification); name one")
    if config.precision == "fp16":
        raise InputError(f"{path}: precision is fp16, which encoders are not trained in; set precision=bf16 or fp32")
    if config.batch.ramp or config.data.classification.cut == "start":
        key = "batch.ramp" if config.batch.ramp else "data.classification.cut=start"
        raise InputError(f"{path}: {key} means nothing to an encoder; leave it out")
    if args.shape:
        args.shape = Shape.of(args.shape, args.vocabulary)
    config = with_epochs(config)
    make_folder(args.out)
    supervisor.quiet_libraries()
    supervisor.prepare_fork()
    return fine_tune(config, args)


def fine_tune(config: RunConfig, args: argparse.Namespace) -> int:
    """Make or read the encoder, train it, and write it."""
    try:
        import transformers
    except ImportError:
        raise InputError("analyze encoder: needs transformers: pip install 'megatron_nlg[analysis]'") from None
    import torch

    from data_prep.files import write_json
    from megatron_nlg.analysis.encoder import model as encoders
    from megatron_nlg.analysis.encoder.training import EncoderTraining, encode_texts
    from megatron_nlg.data.labelled import read_sets
    from megatron_nlg.data.tokenizer import classifier_tokenizer

    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    settings, out = config.data.classification, args.out
    assert settings
    texts = read_sets(config)
    torch.manual_seed(config.seed)
    if args.shape:
        own = classifier_tokenizer(config, args.run)
        tokenizer = encoders.new_tokenizer(args.shape, own, texts[0].texts)
        model = encoders.new_encoder(args.shape, tokenizer, settings.labels, settings.max_length, config.model.dropout)
    else:
        tokenizer = encoders.read_tokenizer(args.start)
        model = encoders.read_encoder(args.start, settings.labels)
        longest = min(tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", settings.max_length))
        if settings.max_length > longest:
            raise InputError(
                f"data.classification.max_length: {settings.max_length} is above the {longest} positions of "
                f"{args.start}; lower it"
            )
    train, valid = (encode_texts(part, tokenizer, settings.max_length) for part in texts)
    _check_identity(out, config, args, [train.identity, valid.identity])
    if (out / MODEL).is_dir():
        print(f"{out / MODEL}: is there already; remove {out} to train anew")
        return 0
    training = EncoderTraining(config, model, (train, valid), int(tokenizer.pad_token_id or 0), out)
    count = sum(part.numel() for part in model.parameters())
    print(f"{type(model).__name__}, {count:,} parameters, {training.total_steps} steps of {config.batch.global_}")
    last = training.train(_Teller(training.total_steps))
    encoders.save_encoder(training.model, tokenizer, out / MODEL)
    write_json(out / "scores.json", last)
    print(f"{out / MODEL}: accuracy {last['accuracy']:.4f}, F1 {last['f1']:.4f}")
    return 0


class _Teller:
    """Prints every validation, and a step now and then."""

    def __init__(self, total: int):
        self.total, self.said = total, time.monotonic()

    def __call__(self, row: dict[str, Any]) -> None:
        where = f"step {row['step']}/{self.total}: loss {row['loss']:.4f}"
        if "accuracy" in row:
            print(f"{where} on validation, accuracy {row['accuracy']:.4f}, F1 {row['f1']:.4f}", flush=True)
        elif time.monotonic() - self.said > SAY_SECONDS:
            self.said = time.monotonic()
            print(where, flush=True)


def _check_identity(out: Path, config: RunConfig, args: argparse.Namespace, texts: list[str]) -> None:
    """Refuse to go on in a folder that other settings have made; otherwise write down which these are."""
    from data_prep.files import file_sha256, read_json, write_json
    from megatron_nlg.analysis.encoder.model import WEIGHTS

    parts = [] if args.shape else sorted(file for glob in ("config.json", *WEIGHTS) for file in args.start.glob(glob))
    mine = {
        "encoder": asdict(args.shape) if args.shape else {file.name: file_sha256(file) for file in parts},
        "texts": texts,
        "seed": config.seed,
        "precision": config.precision,
        "dropout": config.model.dropout if args.shape else None,
        "batch": config.batch.model_dump(mode="json"),
        "optimizer": config.optimizer.model_dump(mode="json"),
        "schedule": config.schedule.model_dump(mode="json"),
    }
    path = out / IDENTITY
    if path.exists():
        there = read_json(path, f"remove {out} to train anew")
        if changed := [key for key in mine if there.get(key) != mine[key]]:
            raise InputError(f"{out}: was made with another {', '.join(changed)}; choose another --out")
    else:
        write_json(path, mine)
