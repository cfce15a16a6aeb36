"""`megatron-nlg classify`: the classes of a file's texts by a trained classifier."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megatron_nlg.config.errors import InputError
from megatron_nlg.generation.command import ONE_RANK
from megatron_nlg.generation.rows import RowFile

if TYPE_CHECKING:
    from torch import Tensor

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
    from megatron_nlg.generation.classifier import TrainedClassifier
    from megatron_nlg.generation.progress import progress

    classifier = TrainedClassifier(config, run, step)
    context, settings = classifier.context, classifier.settings
    job = Classified(texts.texts, settings.labels, classifier.progress.step, out or Path(os.devnull))
    rows = job.finished() if out else {}
    first = next(index for index in range(len(texts) + 1) if index not in rows)
    is_main = context.is_main
    context.barrier()  # all have read before one writes
    if out and is_main:
        job.drop_torn_end()
    with progress("classifying", len(texts), first, context, terminal) as advance:
        for index, logits in enumerate(classifier.stream(texts, batch, first), first):
            if index not in rows:
                rows[index] = job.row(index, logits)
                if out and is_main:
                    job.append(rows[index])
            advance()
    if is_main:
        for problem in classifier.damaged:
            print(f"damaged checkpoint {problem}; an older one is used", file=terminal.err, flush=True)
        if out:
            job.publish()
        else:
            lines = "".join(json.dumps(rows[index], ensure_ascii=False) + "\n" for index in range(len(texts)))
            print(lines, end="", file=terminal.out, flush=True)
        if said := score_line(texts.classes, [list(rows[i]["probabilities"].values()) for i in range(len(texts))]):
            print(said, file=terminal.err, flush=True)
    context.barrier()
    context.destroy()
    return 0


@dataclass(frozen=True)
class Classified(RowFile):
    """The classes of a file's texts, in their order."""

    texts: Sequence[str]
    labels: Sequence[str]
    step: int
    """Of the checkpoint."""
    out: Path

    def made_of(self, index: int) -> dict[str, Any] | None:
        """Text and checkpoint."""
        return {"text": self.texts[index], "step": self.step} if 0 <= index < len(self.texts) else None

    def row(self, index: int, logits: Tensor) -> dict[str, Any]:
        """What is written of a text; logits [classes]."""
        probabilities = logits.double().softmax(dim=0).tolist()
        label = self.labels[probabilities.index(max(probabilities))]
        row = {"index": index, "text": self.texts[index], "label": label, "step": self.step}
        return row | {"probabilities": dict(zip(self.labels, probabilities, strict=True))}


def score_line(right: Sequence[int], probabilities: Sequence[Sequence[float]]) -> str | None:
    """Accuracy and F1 where every text has its right class, else None; probabilities [texts, classes]."""
    import torch

    from megatron_nlg.data.labelled import NO_LABEL
    from megatron_nlg.training.scores import scores_of

    if NO_LABEL in right:
        return None
    found, target = torch.tensor(probabilities, dtype=torch.float64), torch.tensor(right)
    loss = float(torch.nn.functional.nll_loss(found.log(), target, reduction="sum"))
    classes = found.shape[1]
    counts = torch.bincount(target * classes + found.argmax(dim=1), minlength=classes * classes)
    scores = scores_of(loss, counts.view(classes, classes).double())
    return f"{scores.examples} texts: loss {scores.loss:.4f}, accuracy {scores.accuracy:.4f}, F1 {scores.f1:.4f}"
