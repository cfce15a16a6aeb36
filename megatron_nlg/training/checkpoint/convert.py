"""`megatron-nlg convert`: checkpoints into other shapes, and from other systems. One process, bounded memory."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from megatron_nlg.config.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    what = "rewrite a checkpoint as if by one rank, in the present format"
    reshape = kinds.add_parser("reshape", help=what, description=what)
    reshape.add_argument("source", type=Path, metavar="SRC", help="a run's folder, its checkpoints/, or one step_…")
    reshape.add_argument("--files", type=int, default=1, metavar="N", help="files to spread it over (default: 1)")
    what = "import a DeepSpeed universal checkpoint of a Megatron-core GPT"
    universal = kinds.add_parser("universal", help=what, description=what)
    universal.add_argument("source", type=Path, metavar="SRC", help="folder with zero/<parameter>/fp32.pt, …")
    universal.add_argument("--config", type=Path, required=True, metavar="CONFIG", help="run config with its model")
    universal.add_argument("--samples", type=int, default=0, metavar="N", help="sequences it has read (default: 0)")
    universal.add_argument("--step", type=int, metavar="N", help="its step (default: what SRC says)")
    for kind in (reshape, universal):
        kind.add_argument("target", type=Path, metavar="DST", help="folder to put step_… into")
        kind.add_argument("--weights", action="store_true", help="leave Adam's moments out")
    what = "make a run of a GPT-2 that Hugging Face's transformers have saved"
    from_hf = kinds.add_parser("from-hf", help=what, description=what)
    from_hf.add_argument("source", type=Path, metavar="SRC", help="folder with config.json, weights and tokenizer")
    from_hf.add_argument("target", type=Path, metavar="RUN", help="run folder to make")
    what = "export a run's GPT-2 for Hugging Face's transformers"
    to_hf = kinds.add_parser("to-hf", help=what, description=what)
    to_hf.add_argument("source", type=Path, metavar="SRC", help="a run's folder, its checkpoints/, or one step_…")
    to_hf.add_argument("target", type=Path, metavar="DST", help="folder to make")
    to_hf.add_argument(
        "--shard-gb", type=float, default=5.0, metavar="GB", help="size of a file of weights at most (default: 5)"
    )


def run(args: argparse.Namespace) -> int:
    """Convert; prints the new checkpoint's folder."""
    if args.kind == "reshape" and args.files < 1:
        raise InputError(f"--files {args.files}: must be 1 or more")
    if args.kind == "to-hf" and not args.shard_gb > 0:
        raise InputError(f"--shard-gb {args.shard_gb}: must be above 0")
    from megatron_nlg.parallel.supervisor import quiet_libraries

    quiet_libraries()
    if args.kind in ("from-hf", "to-hf"):
        from megatron_nlg.training.checkpoint.huggingface import export_folder, import_folder

        if args.kind == "from-hf":
            made = import_folder(args.source, args.target)
        else:
            made = export_folder(args.source, args.target, int(args.shard_gb * 1e9))
    elif args.kind == "reshape":
        from megatron_nlg.training.checkpoint.reshape import reshape

        made = reshape(args.source, args.target, args.weights, args.files)
    else:
        from megatron_nlg.config.validate import load_config
        from megatron_nlg.training.checkpoint.universal import import_universal

        config = load_config(args.config)
        made = import_universal(args.source, args.target, config, args.weights, args.step, args.samples)
    print(made, file=sys.stdout)
    return 0
