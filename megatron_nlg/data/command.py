"""`megatron-nlg index`: builds the sample indices of a run beforehand, on one machine and without a GPU."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("config", type=Path, metavar="CONFIG", help="run config (YAML)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the file's")
    parser.add_argument("--out", type=Path, metavar="DIR", help="run folder, as for train; or set data.index_cache")


def run(args: argparse.Namespace) -> int:
    """Build what is missing and print the folder. Raises InputError as training would."""
    from megatron_nlg.config.errors import InputError
    from megatron_nlg.config.validate import load_config
    from megatron_nlg.data.index import build_index, checked_plan
    from megatron_nlg.parallel.supervisor import quiet_libraries

    config = load_config(args.config, args.overrides)
    if args.out is None and config.data.index_cache is None:
        raise InputError("--out: the run folder is needed to put the indices in, unless data.index_cache is set")
    quiet_libraries()
    plan = checked_plan(config, args.out)
    built = build_index(plan)
    print(f"{plan.index} {'built' if built else 'is there already'}: {plan.train_samples:,} samples")
    return 0
