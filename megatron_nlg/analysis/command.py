"""`megatron-nlg analyze`: what a model's blocks hold, study by study."""

from __future__ import annotations

import argparse
import importlib
from typing import NamedTuple


class Study(NamedTuple):
    """A study: `module` has add_arguments(parser) and run(args) -> exit code."""

    module: str
    help: str


STUDIES = {
    "geometry": Study(
        "megatron_nlg.analysis.geometry.command", "blocks compared by CKA, dominant dimensions, projections; a report"
    ),
    "probe": Study("megatron_nlg.analysis.probing.command", "what layers know of ranking, read by probes; a report"),
    "collection": Study(
        "megatron_nlg.analysis.probing.collection_command", "passages, queries and judgements of local texts, for probe"
    ),
    "encoder": Study("megatron_nlg.analysis.encoder.command", "fine-tune an encoder on the texts of a classifier"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the studies and their arguments."""
    studies = parser.add_subparsers(dest="study", metavar="STUDY", required=True)
    for name, study in STUDIES.items():
        sub = studies.add_parser(name, help=study.help, description=study.help)
        importlib.import_module(study.module).add_arguments(sub)
        sub.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show a traceback")


def run(args: argparse.Namespace) -> int:
    """Run the study that was chosen; returns the exit code."""
    return int(importlib.import_module(STUDIES[args.study].module).run(args))
