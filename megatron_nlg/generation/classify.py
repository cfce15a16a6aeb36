"""`megatron-nlg classify`: the classes of a file's texts by a trained classifier."""

from __future__ import annotations

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megatron_nlg.config.errors import InputError
from megatron_nlg.generation.command import ONE_RANK

if TYPE_CHECKING:
    from megatron_nlg.config.schema import RunConfig
    from megatron_nlg.data.labelled import Texts
    from megatron_nlg.parallel.supervisor import Terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder of a classifier")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="another layout, such as parallel.tensor=2")
    parser.add_argument("--file", type=Path, required=True, metavar="FILE", help="texts as in training: TSV or .jsonl")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON lines of label and probabilities (else printed)")
    parser.add_argument("--step", type=int, metavar="N", help="the checkpoint of this step (default: the newest)")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="texts at once (default: 32)")
    parser.epilog = "one rank unless the layout asks for more; where the file has labels, accuracy and F1 are told"


def run(args: argparse.Namespace) -> int:
    """Classify; returns the exit code."""
    from megatron_nlg.config.validate import load_config, replica_ranks
    from megatron_nlg.data.labelled import read_texts
    from megatron_nlg.parallel import supervisor

    if args.batch_size < 1:
        raise InputError(f"--batch-size {args.batch_size}: must be 1 or more")
    if not (args.run / "config.yaml").is_file():
        raise InputError(f"{args.run}: has no config.yaml; name the folder of a run")
    config = load_config(args.run / "config.yaml", [*ONE_RANK, *args.overrides])
    if config.data.classification is None:
        raise InputError(f"{args.run}: is no classifier (task: classification); train one, or use generate")
    if args.out and not args.out.parent.is_dir():
        raise InputError(f"--out {args.out}: {args.out.parent} is not a folder; make it first")
    texts = read_texts(args.file, config.data.classification, labelled=False)
    supervisor.quiet_libraries()
    supervisor.prepare_fork()
    ranks = supervisor.local_ranks(replica_ranks(config))
    body = partial(classify, config, args.run, texts, args.out, args.step, args.batch_size)
    with tempfile.TemporaryDirectory(prefix="megatron-nlg-") as logs:
        return supervisor.supervise(body, Path(logs), ranks)


def classify(
    config: RunConfig, run: Path, texts: Texts, out: Path | None, step: int | None, batch: int, terminal: Terminal
) -> int:
    """Classify as this process's rank; rank 0 writes."""
    from data_prep.files import write_text
    from megatron_nlg.generation.classifier import TrainedClassifier

    classifier = TrainedClassifier(config, run, step)
    logits = classifier.logits(texts, batch)
    if classifier.context.is_main:
        for problem in classifier.damaged:
            print(f"damaged checkpoint {problem}; an older one is used", file=terminal.err, flush=True)
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(texts, logits, config))
        if out:
            write_text(out, lines)
        else:
            print(lines, end="", file=terminal.out, flush=True)
        if said := score_line(texts, logits):
            print(said, file=terminal.err, flush=True)
    classifier.context.barrier()
    classifier.context.destroy()
    return 0


def rows(texts: Texts, logits: Any, config: RunConfig) -> list[dict[str, Any]]:
    """A row a text, in the file's order; logits [texts, classes]."""
    settings = config.data.classification
    assert settings
    found = []
    for text, scores in zip(texts.texts, logits.softmax(dim=1).tolist(), strict=True):
        label = settings.labels[scores.index(max(scores))]
        found.append({"text": text, "label": label, "probabilities": dict(zip(settings.labels, scores, strict=True))})
    return found


def score_line(texts: Texts, logits: Any) -> str | None:
    """Accuracy and F1 where every text has its right class, else None."""
    import torch

    from megatron_nlg.data.labelled import NO_LABEL
    from megatron_nlg.training.scores import scores_of

    if NO_LABEL in texts.classes:
        return None
    right = torch.tensor(texts.classes)
    loss = float(torch.nn.functional.cross_entropy(logits.double(), right, reduction="sum"))
    classes = logits.shape[1]
    counts = torch.bincount(right * classes + logits.argmax(dim=1), minlength=classes * classes)
    scores = scores_of(loss, counts.view(classes, classes).double())
    return f"{scores.examples} texts: loss {scores.loss:.4f}, accuracy {scores.accuracy:.4f}, F1 {scores.f1:.4f}"
