"""Log-likelihoods a second and the building of requests, against lm-evaluation-harness's own, in the same run.

    python -m benchmarks.evaluation [--data DIR] [--requests N] [--rounds 3] [--tasks NAMES] [--quick]

Both sides have the same weights (random, a GPT-2 of transformers imported by `convert from-hf`), the same tasks and
requests, live in one process and take turns; a ratio is the median over rounds of its seconds / our seconds. The
peer is HFLM with its batches of 16. Few-shot prompts show 4 examples, drawn for each question or the same for all.
The builder makes the requests of 6,000 LAMBADA and HellaSwag documents (rows are repeated where a set has fewer).
With --tasks or --shapes the file's other rows stay as they were measured.
DIR has the sets in their published files (default: $MEGATRON_NLG_DATA/eval). Writes benchmarks/results/evaluation.json.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULT = Path("benchmarks/results/evaluation.json")
SHAPES = {
    "30M": {"n_layer": 6, "n_embd": 384, "n_head": 6},
    "124M": {"n_layer": 12, "n_embd": 768, "n_head": 12},
}
TASKS = {"lambada": 1, "hellaswag": 4, "piqa": 2, "winogrande": 2, "boolq": 2}
"""Name -> requests of a document."""
FEW = 4
BATCH = 16
BUILT = 6000


def pair(shape: str, data: Path, folder: Path) -> tuple[Any, Any]:
    """Our adaptor and the harness's, with the same weights."""
    import torch
    from lm_eval.models.huggingface import HFLM
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    from data_prep.tokenizer import BytePairTokenizer
    from megatron_nlg.config.validate import load_config
    from megatron_nlg.data.tokenizer import run_tokenizer
    from megatron_nlg.evaluation.adaptor import ParallelLM
    from megatron_nlg.evaluation.ranks import Ranks
    from megatron_nlg.generation.generator import Generator
    from megatron_nlg.generation.scoring import Scorer
    from megatron_nlg.training.checkpoint.huggingface import import_folder

    vocabulary = data.parent / "tokenizer"
    own = BytePairTokenizer.from_gpt2(vocabulary / "gpt2-vocab.json", vocabulary / "gpt2-merges.txt")
    torch.manual_seed(0)
    source, run = folder / f"{shape}-theirs", folder / f"{shape}-ours"
    model = GPT2LMHeadModel(GPT2Config(**SHAPES[shape], initializer_range=0.05)).eval()
    model.save_pretrained(source)
    (source / "tokenizer.json").write_text(own.content)
    import_folder(source, run)
    config = load_config(run / "config.yaml")
    generator = Generator(config, run, run_tokenizer(config, run))
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(source / "tokenizer.json"), eos_token="<|endoftext|>")
    device = generator.context.device.torch
    theirs = HFLM(pretrained=model.to(device), tokenizer=tokenizer, batch_size=BATCH, device=str(device))
    return ParallelLM(Ranks(generator, Scorer(generator))), theirs


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Of a call, and what it returned; its bars go nowhere."""
    start = time.perf_counter()
    with contextlib.redirect_stderr(io.StringIO()):
        found = work()
    return time.perf_counter() - start, found


def measure(ours: Any, theirs: Any, task: Any, documents: int, rounds: int) -> dict[str, Any]:
    """Log-likelihoods of a task's requests, in turns."""
    task.build_all_requests(limit=documents)
    requests = list(task.instances)
    with contextlib.redirect_stderr(io.StringIO()):
        ours.loglikelihood(requests[:8])
        theirs.loglikelihood(requests[:8])
    rows, apart = [], 0.0
    for _ in range(rounds):
        mine, got = seconds(lambda: ours.loglikelihood(requests))
        peer, want = seconds(lambda: theirs.loglikelihood(requests, disable_tqdm=True))
        rows.append((mine, peer))
        apart = max(abs(a - b) for (a, _), (b, _) in zip(got, want, strict=True))
    count = len(requests)
    return {
        "requests": count,
        "ours_per_second": round(count / statistics.median(mine for mine, _ in rows), 2),
        "harness_per_second": round(count / statistics.median(peer for _, peer in rows), 2),
        "ratio": round(statistics.median(peer / mine for mine, peer in rows), 2),
        "largest_difference_of_log_likelihoods": float(f"{apart:.2g}"),
    }


def building(data: Path, documents: int) -> dict[str, Any]:
    """Seconds to build the requests of LAMBADA and HellaSwag, and whether they are equal."""
    from datasets import Dataset

    from megatron_nlg.evaluation.harness import Source, build_task

    out: dict[str, Any] = {"documents": documents}
    for shots in (0, FEW):
        spent = {False: 0.0, True: 0.0}
        equal = True
        for name in ("lambada", "hellaswag"):
            made = []
            for fast in (False, True):
                task = build_task(name, shots, Source(data, fast_requests=fast))
                rows = task.dataset["evaluated"].to_list()
                repeated = (rows * (documents // 2 // len(rows) + 1))[: documents // 2]
                task.dataset["evaluated"] = Dataset.from_list(repeated)
                task.task_docs = task.eval_docs
                took, _ = seconds(task.build_all_requests)
                spent[fast] += took
                made.append(task.instances)
            equal &= made[0] == made[1]
        out[f"{shots} shots"] = {
            "harness_seconds": round(spent[False], 3),
            "ours_seconds": round(spent[True], 3),
            "share": round(spent[True] / spent[False], 3),
            "equal": equal,
        }
    return out


def main() -> None:
    """Measure and write."""
    default = Path(os.environ.get("MEGATRON_NLG_DATA", "../shared/data")) / "eval"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--requests", type=int, default=96, help="of each task, a third of them for 124M")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=SHAPES)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS, help="the file's other rows stay")
    parser.add_argument("--quick", action="store_true", help="one small size, once, nothing written")
    args = parser.parse_args()
    if args.quick:
        args.requests, args.rounds, args.shapes = 24, 1, ["30M"]
    import torch

    from benchmarks.machine import describe
    from megatron_nlg.evaluation.harness import Source, build_task

    out: dict[str, Any] = {"machine": describe(), "threads": torch.get_num_threads(), "harness_batch": BATCH}
    if RESULT.exists() and (set(args.tasks), set(args.shapes)) != (set(TASKS), set(SHAPES)):
        out["models"] = json.loads(RESULT.read_text())["models"]
    out["requests"] = building(args.data, 600 if args.quick else BUILT)
    print(json.dumps(out["requests"]), flush=True)
    kinds = {"zero-shot": (0, False), f"{FEW}-shot": (FEW, False), f"{FEW}-shot, the same": (FEW, True)}
    for shape in args.shapes:
        with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
            ours, theirs = pair(shape, args.data, Path(folder))
            for kind, (shots, same) in kinds.items():
                for name in args.tasks:
                    task = build_task(name, shots, Source(args.data, same_shots=same))
                    requests = args.requests if shape == "30M" else args.requests // 3
                    found = measure(ours, theirs, task, requests // TASKS[name], args.rounds)
                    out.setdefault("models", {}).setdefault(shape, {}).setdefault(kind, {})[name] = found
                    print(shape, kind, name, json.dumps(found), flush=True)
                    if not args.quick:
                        RESULT.write_text(json.dumps(out, indent=2) + "\n")
            ours.ranks.generator.context.destroy()


if __name__ == "__main__":
    main()
