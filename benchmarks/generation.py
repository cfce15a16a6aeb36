"""Tokens a second of `Generator.generate` against transformers' `generate`: same weights, machine and run, greedy.

    python -m benchmarks.generation [--rounds 7] [--quick]

Both live in one process and take turns. A ratio is the median over rounds of its seconds / our seconds. The weights are
random, those of a GPT-2 of transformers, imported by `convert from-hf`; nothing ends a text before its last token.
Needs `transformers` (the `bench` extra). Writes benchmarks/results/generation.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

RESULT = Path("benchmarks/results/generation.json")
SHAPES = {
    "30M": {"n_layer": 6, "n_embd": 384, "n_head": 6, "n_positions": 1024, "vocab_size": 50257},
    "124M": {"n_layer": 12, "n_embd": 768, "n_head": 12, "n_positions": 1024, "vocab_size": 50257},
}
PROMPT, NEW = 64, 64


def pair(shape: str, folder: Path) -> tuple[Any, Any]:
    """The two sides with the same weights."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from data_prep.tokenizer import CharacterTokenizer
    from megatron_nlg.config.validate import load_config
    from megatron_nlg.generation.generator import Generator
    from megatron_nlg.training.checkpoint.huggingface import import_folder

    torch.manual_seed(0)
    source, run = folder / f"{shape}-theirs", folder / f"{shape}-ours"
    theirs = GPT2LMHeadModel(GPT2Config(**SHAPES[shape], initializer_range=0.05)).eval()
    theirs.save_pretrained(source)
    import_folder(source, run)
    config = load_config(run / "config.yaml")
    tokenizer = CharacterTokenizer("".join(map(chr, range(0x10000, 0x10000 + SHAPES[shape]["vocab_size"] - 1))))
    tokenizer.identity = None  # the import had none
    ours = Generator(config, run, tokenizer)
    tokenizer.eod = -1
    return ours, theirs.to(ours.context.device.torch)


def measure(ours: Any, theirs: Any, batch: int, new: int, rounds: int) -> dict[str, Any]:
    """Take turns; the first round is thrown away."""
    import torch

    from megatron_nlg.generation.sampling import Sampling

    draw = torch.Generator().manual_seed(batch)
    prompts = torch.randint(0, 50257, (batch, PROMPT), generator=draw).to(theirs.device)
    attend = torch.ones_like(prompts)
    how = [Sampling(temperature=0, max_tokens=new)] * batch

    def we() -> list[list[int]]:
        results = sorted(ours.generate(prompts.tolist(), how, batch_size=batch), key=lambda r: r.index)
        return [result.tokens for result in results]

    def they() -> list[list[int]]:
        out = theirs.generate(
            prompts, attention_mask=attend, do_sample=False, max_new_tokens=new, min_new_tokens=new, pad_token_id=0
        )
        return out[:, PROMPT:].tolist()

    seconds: dict[Any, list[float]] = {we: [], they: []}
    tokens = {}
    for number in range(rounds + 1):
        for side in (we, they) if number % 2 else (they, we):
            start = time.perf_counter()
            tokens[side] = side()
            seconds[side].append(time.perf_counter() - start)
    mine, its = seconds[we][1:], seconds[they][1:]
    ratios = [b / a for a, b in zip(mine, its, strict=True)]
    return {
        "our_tokens_per_second": round(batch * new / statistics.median(mine), 1),
        "its_tokens_per_second": round(batch * new / statistics.median(its), 1),
        "our_speed_over_its": round(statistics.median(ratios), 3),
        "range": [round(min(ratios), 3), round(max(ratios), 3)],
        "texts_equal": f"{sum(a == b for a, b in zip(tokens[we], tokens[they], strict=True))} of {batch}",
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="the small model, few tokens, nothing written")
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=SHAPES)
    args = parser.parse_args()
    from importlib.metadata import version

    from megatron_nlg.parallel.supervisor import prepare_fork, quiet_libraries

    quiet_libraries()
    prepare_fork()
    import torch

    from benchmarks.machine import describe

    result: dict[str, Any] = {"machine": describe(), "transformers": version("transformers"), "shapes": SHAPES}
    result |= {"prompt_tokens": PROMPT, "new_tokens": NEW, "rounds": args.rounds}
    with tempfile.TemporaryDirectory() as folder:
        for shape in ["30M"] if args.quick else args.shapes:
            ours, theirs = pair(shape, Path(folder))
            result["threads"] = torch.get_num_threads()
            for batch in (1, 16):
                row = measure(ours, theirs, batch, 8 if args.quick else NEW, 2 if args.quick else args.rounds)
                result[f"{shape}, batch {batch}"] = row
                print(f"{shape:6} batch {batch:3} {row}", flush=True)
                if not args.quick:
                    RESULT.write_text(json.dumps(result, indent=1) + "\n")
            ours.context.destroy()
    return 0


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    raise SystemExit(main())
