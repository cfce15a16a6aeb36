"""`megatron-nlg analyze collection`: passages, queries and judgements made of local texts, for `analyze probe`."""

from __future__ import annotations

import argparse
from pathlib import Path

from megatron_nlg.config.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="texts: .txt, .md, .jsonl, or rows: .tsv")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the collection")
    parser.add_argument(
        "--queries", choices=("headings", "first", "known"), default="headings",
        help="of documents: headings, first sentences, or rare terms of passages (default: headings)",
    )  # fmt: skip
    parser.add_argument("--words", type=int, default=100, metavar="N", help="of a passage (default: 100)")
    parser.add_argument(
        "--limit", type=int, default=10000, metavar="N", help="queries of first, known (default: 10000)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of draws (default: 0)")
    parser.add_argument("--query", metavar="COLUMN", help="of rows: where the query is")
    parser.add_argument("--passage", metavar="COLUMN", help="of rows: where the passage is")
    parser.add_argument("--relevant", metavar="COLUMN=VALUE", help="of rows: which are relevant (default: all)")


def run(args: argparse.Namespace) -> int:
    """Make it; returns the exit code."""
    from megatron_nlg.analysis.probing.build import from_documents, from_rows, write

    for option, value, least in (("--words", args.words, 10), ("--limit", args.limit, 1), ("--seed", args.seed, 0)):
        if value < least:
            raise InputError(f"{option} {value}: must be {least} or more")
    if (args.query is None) != (args.passage is None):
        raise InputError("--query and --passage: are columns of the same rows; name both, or none for documents")
    if args.query:
        if len(args.files) > 1:
            raise InputError(f"{args.files[1]}: rows are read from one file; leave it out")
        found = from_rows(args.files[0], args.query, args.passage, args.relevant)
    else:
        found = from_documents(args.files, args.queries, args.words, args.limit, args.seed)
    write(found, args.out)
    relevant = sum(grade > 0 for grades in found.judged.values() for grade in grades.values())
    print(f"{args.out}: {len(found.passages)} passages, {len(found.queries)} queries, {relevant} relevant pairs")
    return 0
