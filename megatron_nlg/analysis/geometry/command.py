"""`megatron-nlg analyze geometry`: how models hold labelled texts, block by block; figures, tables and a report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megatron_nlg.config.errors import InputError

if TYPE_CHECKING:
    from megatron_nlg.analysis.geometry.activations import Activations
    from megatron_nlg.analysis.geometry.examples import Examples

FIGURES, REPORT = "figures.json", "report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder, or a model of transformers")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="layout, such as parallel.tensor=2")
    parser.add_argument(
        "--against", type=Path, nargs="+", default=[], metavar="RUN2", help="other models, compared block by block"
    )
    parser.add_argument(
        "--data", type=Path, metavar="FILE", help="labelled texts: TSV or .jsonl (default: RUN's own validation texts)"
    )
    parser.add_argument(
        "--train",
        type=Path,
        metavar="FILE",
        help="texts that thresholds are fitted on (default: a share of --data, or RUN's own)",
    )
    parser.add_argument(
        "--split", type=float, default=0.5, metavar="S", help="that share, drawn by the seed (default: 0.5)"
    )
    parser.add_argument("--limit", type=int, default=2000, metavar="N", help="texts of a file (default: 2000)")
    parser.add_argument("--text", metavar="TEMPLATE", help="as data.classification.text (default: RUN's own)")
    parser.add_argument("--label", metavar="COLUMN", help="column of the class (default: RUN's own)")
    parser.add_argument("--labels", metavar="A,B", help="the classes as the file writes them (default: RUN's own)")
    parser.add_argument("--batch", type=int, default=256, metavar="N", help="of minibatch CKA (default: 256)")
    parser.add_argument("--points", type=int, default=500, metavar="N", help="texts in projections (default: 500)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all draws (default: 0)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where it all goes (default: RUN/geometry)")
    parser.epilog = (
        "One rank unless the layout asks for more: ranks = parallel.tensor × parallel.pipeline. Started again, the "
        "command takes the activations that are there."
    )


def run(args: argparse.Namespace) -> int:
    """Run the study; returns the exit code."""
    from data_prep.files import fingerprint
    from megatron_nlg.analysis.geometry.activations import load, make
    from megatron_nlg.analysis.geometry.examples import examples_of, read_sets_of, settings_of

    _check(args)
    folders = [args.run, *args.against]
    names = _names(folders)
    settings = settings_of(folders, args.text, args.label, args.labels)
    seen, other = read_sets_of(args.run, args.data, args.train, settings)
    examples = examples_of(seen, other, settings, args.limit, args.split, args.seed)
    out = args.out or args.run / "geometry"
    whole = [folder.resolve() for folder in folders]
    kept = [out / "activations" / f"{folder.name}-{fingerprint(str(folder))[:8]}" for folder in whole]
    for folder, name, place in zip(folders, names, kept, strict=True):
        if code := make(folder, args.overrides, name, examples, place):
            return code
    models = [load(name, place) for name, place in zip(names, kept, strict=True)]
    _report(args, models, examples, out)
    return 0


def _check(args: argparse.Namespace) -> None:
    """Raise InputError for options that make no sense."""
    for option, value, least in (
        ("--limit", args.limit, 8),
        ("--batch", args.batch, 4),
        ("--points", args.points, 4),
        ("--seed", args.seed, 0),
    ):
        if value < least:
            raise InputError(f"{option} {value}: must be {least} or more")
    if not 0 < args.split < 1:
        raise InputError(f"--split {args.split:g}: must be between 0 and 1")
    try:
        import sklearn  # noqa: F401
    except ImportError:
        raise InputError("analyze geometry: needs scikit-learn; install megatron_nlg[analysis]") from None


def _names(folders: Sequence[Path]) -> list[str]:
    """Names of the folders, with those above for as long as others end alike."""
    whole = [folder.resolve() for folder in folders]
    if len(set(whole)) < len(whole):
        twice = next(folder for folder in folders if whole.count(folder.resolve()) > 1)
        raise InputError(f"--against {twice}: is named twice; leave it out")
    names = []
    for path in whole:
        others = [other for other in whole if other != path]
        depth = 1
        while any(other.parts[-depth:] == path.parts[-depth:] for other in others):
            depth += 1
        names.append("/".join(path.parts[-depth:]))
    return names


def _file(path: Path) -> dict[str, str]:
    from data_prep.files import file_sha256

    return {"file": path.name, "sha256": file_sha256(path)}


def _report(args: argparse.Namespace, models: Sequence[Activations], examples: Examples, out: Path) -> None:
    """Numbers, pictures and page, and the page's path for the user."""
    from data_prep.files import write_json, write_text
    from megatron_nlg.analysis.geometry.figures import figures, steps
    from megatron_nlg.analysis.geometry.page import page
    from megatron_nlg.analysis.geometry.plots import pictures
    from megatron_nlg.analysis.geometry.tables import write_tables
    from megatron_nlg.analysis.progress import bar

    with bar("blocks", steps(models), sys.stderr) as advance:
        found = figures(models, examples, args.batch, args.points, args.seed, advance)
    study: dict[str, Any] = {
        "study": "geometry",
        "data": _file(args.data) if args.data else {"file": f"{args.run.resolve().name}'s own validation texts"},
        "train": _file(args.train) if args.train else None,
        "texts": examples.identity,
        "settings": {key: getattr(args, key) for key in ("split", "limit", "batch", "points", "seed")}
        | {key: getattr(examples.settings, key) for key in ("text", "max_length", "cut")},
        **found,
    }
    write_json(out / FIGURES, study)
    write_tables(study, out / "tables")
    drawn = pictures(study, out / "figures")
    write_text(out / REPORT, page(study, drawn))
    for model in study["models"]:
        last = model["blocks"][-1]
        parts = [
            f"IsoScore {last['iso_score']['summary']}",
            f"top dimension {100 * last['top_share']:.1f} % of variance",
        ]
        if last["threshold"]:
            parts.append(f"its threshold {100 * last['threshold']['accuracy']:.1f} % right")
        if model["head"]:
            parts.append(f"head {100 * model['head']['accuracy']:.1f} %")
        print(f"{model['name']}: {', '.join(parts)}", file=sys.stderr)
    print(out / REPORT)
