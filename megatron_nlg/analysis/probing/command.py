"""`megatron-nlg analyze probe`: what a model's layers know of ranking, and how easily that is read; a report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megatron_nlg.config.errors import InputError

if TYPE_CHECKING:
    from megatron_nlg.analysis.probing.example import ProbingSet
    from megatron_nlg.analysis.probing.fit import Training
    from megatron_nlg.analysis.probing.probes import Kind
    from megatron_nlg.analysis.probing.tasks import Sources

ROWS, FIGURES, REPORT = "rows.jsonl", "figures.json", "report.html"
WORK = "representations"
FILES = {
    "entities": "named entities: CoNLL columns, or .jsonl of edge probing",
    "similarity": "sentence pairs with scores from 0 to 5: STS-B's .tsv, or .jsonl",
    "coreference": "pairs of mentions: GAP's .tsv, or .jsonl of edge probing (OntoNotes)",
    "facts": "claims with their verdicts: FEVER's .jsonl",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder, or a model of transformers")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="layout, such as parallel.tensor=2")
    parser.add_argument("--against", type=Path, nargs="+", default=[], metavar="RUN2", help="other models, beside it")
    parser.add_argument(
        "--task", default="all", metavar="TASK,…",
        help="bm25, tf, relevance, entities, similarity, coreference, facts (default: all that have what they need)",
    )  # fmt: skip
    parser.add_argument(
        "--collection", type=Path, metavar="DIR", help="passages, queries and judgements in MS MARCO's or BEIR's layout"
    )
    for name, text in FILES.items():
        parser.add_argument(f"--{name}", type=Path, metavar="FILE", help=text)
    parser.add_argument(
        "--tagger",
        metavar="MODULE:FUNCTION",
        help="gives (begin, end, class) of the entities of texts, for --collection",
    )
    parser.add_argument(
        "--embedder", metavar="MODULE:FUNCTION", help="gives a vector a text, for similarity in --collection"
    )
    parser.add_argument(
        "--probe", default="linear", metavar="KIND,…",
        help="linear, mlp, mix (a mixture of all layers), multi (all tasks by one projection) (default: linear)",
    )  # fmt: skip
    parser.add_argument(
        "--no-product", action="store_true", help="two spans side by side only, without their elementwise product"
    )
    parser.add_argument("--width", type=int, default=64, metavar="N", help="hidden layer of mlp, multi (default: 64)")
    parser.add_argument("--limit", type=int, default=4000, metavar="N", help="examples of a task (default: 4000)")
    parser.add_argument(
        "--passage-words", type=int, default=100, metavar="N", help="where passages are cut (default: 100)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all draws (default: 0)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="rows, figures and report (default: RUN/probing)")
    parser.epilog = (
        "One rank unless the layout asks for more: ranks = parallel.tensor × parallel.pipeline. Killed and started "
        "again, the command goes on where it was."
    )


def run(args: argparse.Namespace) -> int:
    """Run the study; returns the exit code."""
    from data_prep.files import make_folder
    from megatron_nlg.analysis.probing import features, study
    from megatron_nlg.analysis.probing.tasks import choose
    from megatron_nlg.generation.ledger import Ledger

    how, kinds = _training(args)
    given = _sources(args)
    folders = names_of([args.run, *args.against])
    sets = [given.make(task) for task in choose(args.task, given)]
    out = args.out or args.run / "probing"
    make_folder(out)
    work = {name: out / WORK / str(number) for number, name in enumerate(folders)}
    needed = dict.fromkeys(work, sets)
    if all((place / features.ABOUT).is_file() for place in work.values()):
        needed = study.missing(work, sets, kinds, Ledger(out / ROWS, _job(work, sets, how)))
    for name, folder in folders.items():
        if code := features.make(folder, args.overrides, name, needed[name], work[name]):
            return code
    job = _job(work, sets, how)
    ledger = Ledger(out / ROWS, job)
    ledger.rows()  # another job's are refused before anything is written
    ledger.open()
    ranked = study.rank(given.read, ledger) if given.collection else []
    rows = study.probe(work, sets, kinds, how, ledger)
    ledger.publish(study.order(work, sets, kinds, ranked))
    _report(args, out, job, ranked, rows, sets, given)
    for place in work.values():
        features.clear(place)
    return 0


def _job(work: Mapping[str, Path], sets: Sequence[ProbingSet], how: Training) -> dict[str, Any]:
    """What all rows depend on; the kind of its probe each row says."""
    from megatron_nlg.analysis.probing import features
    from megatron_nlg.analysis.probing.measure import settings

    return {
        "study": "probing",
        "models": {name: features.about(place) for name, place in work.items()},
        "sets": {some.name: some.identity for some in sets},
        "training": {key: value for key, value in settings(how).items() if key != "kind"},
    }


def _training(args: argparse.Namespace) -> tuple[Training, list[Kind]]:
    """How probes are trained, and their kinds. Raises InputError for options that make no sense."""
    from megatron_nlg.analysis.probing.example import LEAST
    from megatron_nlg.analysis.probing.fit import Training
    from megatron_nlg.analysis.probing.probes import KINDS

    for option, value, least in (
        ("--limit", args.limit, LEAST),
        ("--passage-words", args.passage_words, 1),
        ("--width", args.width, 1),
        ("--seed", args.seed, 0),
    ):
        if value < least:
            raise InputError(f"{option} {value}: must be {least} or more")
    wanted = args.probe.split(",")
    for kind in wanted:
        if kind not in KINDS:
            raise InputError(f"--probe {kind}: is unknown; the kinds are {', '.join(KINDS)}")
    return Training(width=args.width, product=not args.no_product, seed=args.seed), [
        kind for kind in KINDS if kind in wanted
    ]


def _sources(args: argparse.Namespace) -> Sources:
    from dataclasses import fields

    from megatron_nlg.analysis.probing.tasks import Sources

    return Sources(**{field.name: getattr(args, field.name) for field in fields(Sources)})


def names_of(folders: Sequence[Path]) -> dict[str, Path]:
    """Folders by name, with the one above where two are the same. Raises InputError for one that is given twice."""
    whole = [folder.resolve() for folder in folders]
    for folder in folders:
        if whole.count(folder.resolve()) > 1:
            raise InputError(f"--against {folder}: is named twice; leave it out")
    depth = 1
    while len({path.parts[-depth:] for path in whole}) < len(whole):
        depth += 1
    return {"/".join(path.parts[-depth:]): folder for path, folder in zip(whole, folders, strict=True)}


def _report(
    args: argparse.Namespace, out: Path, job: dict[str, Any], ranked: Sequence[dict[str, Any]],
    rows: Sequence[dict[str, Any]], sets: Sequence[ProbingSet], given: Sources,
) -> None:  # fmt: skip
    """Numbers, pictures and page, and the page's path for the user."""
    from data_prep.files import write_json, write_text
    from megatron_nlg.analysis.probing.page import page
    from megatron_nlg.analysis.probing.plots import pictures
    from megatron_nlg.analysis.probing.tables import best, tables, write_tables

    found = given.read if given.collection else None
    figures = {
        **job,
        "models": [{"name": name, **model} for name, model in job["models"].items()],
        "collection": None if found is None else {
            "folder": args.collection.resolve().name, "passages": len(found.passages), "queries": len(found.queries),
            "judged": len(found.judged), "words": args.passage_words,
        },
        "tasks": [
            {"task": some.name, "classes": some.classes, "about": some.about, "examples": len(some.examples),
             "prior": some.prior} for some in sets
        ],
        "rankers": [{key: value for key, value in row.items() if key != "key"} for row in ranked],
        "rows": [{key: value for key, value in row.items() if key != "key"} for row in rows],
    }  # fmt: skip
    write_json(out / FIGURES, figures)
    write_tables(tables(figures), out)
    write_text(out / REPORT, page(figures, pictures(figures, out / "figures")))
    for row in best(figures):
        text = f"{row['model']}, {row['task']}, {row['probe']}: layer {row['layer']} compresses best, "
        text += f"{row['compression']:.2f} times (control {row['control']['compression']:.2f}); "
        print(text + f"accuracy {100 * row['accuracy']:.1f} %, F1 {row['f1']:.3f}", file=sys.stderr)
    print(out / REPORT)
