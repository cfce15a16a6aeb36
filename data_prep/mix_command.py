"""`megatron-nlg prep mix`: tokenized sources of several preparations as one blend."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `prep mix FILE [--out DIR] [key=value …]`."""
    parser.add_argument("file", type=Path, help="blend file: out, sources (tokens, weight), blend")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as blend.weights=tokens")
    parser.add_argument("--out", help="folder for blend.yaml; the same as out=DIR")


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Write the blend and print its table; returns 0, or raises InputError (exit 2) with every problem."""
    from data_prep.mix import load_mix, mix
    from data_prep.weights import table

    settings = load_mix(args.file, overrides)
    _, about = mix(settings, str(args.file))
    print(table(about), file=sys.stderr)
    print(Path(settings.out) / "blend.yaml")
    return 0
