"""`megatron-nlg sweep`: what learning rate, initial variance and beta2 a size can bear, by a grid of short runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megatron_nlg.config.errors import ConfigError, InputError

if TYPE_CHECKING:
    from megatron_nlg.studies.runs import Outcome, Run
    from megatron_nlg.studies.sweep.grid import Axis, GridRun
    from megatron_nlg.studies.sweep.results import Row
    from megatron_nlg.studies.sweep.rules import Rules

RESULTS, TABLE, PAGE, SCRIPT = "results.json", "results.csv", "report.html", "sweep.sbatch"
INDEX = "data_index"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("config", type=Path, metavar="CONFIG", help="run config (YAML) that all runs share")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings that replace the file's, in all runs"
    )
    parser.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="KEY=V1,V2",
        help="an axis: key=values; key:key=value:value,… binds settings; name=@a.yaml,@b.yaml lays files over CONFIG. "
        "Again for more axes",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="run folders and the report")
    parser.add_argument("--parallel", type=int, default=1, metavar="N", help="runs at once (default: 1)")
    parser.add_argument("--nproc", type=int, default=1, metavar="N", help="local ranks of each run (default: 1)")
    parser.add_argument("--keep-checkpoints", action="store_true", help="of runs that have ended; else deleted")
    parser.add_argument("--list", action="store_true", help="name the runs and start none")
    _add_rules(parser.add_argument_group("what counts as unstable"))
    _add_slurm(parser.add_argument_group("as an array of SLURM jobs"))
    parser.epilog = (
        "Killed and started again, the command goes on where it was; more values may be added. Exit codes: 0 every run "
        "has a verdict (a diverged run has one), 1 a run failed for another reason, 2 bad input, 3 stopped by a signal"
    )


def _add_rules(group: argparse._ArgumentGroup) -> None:
    from megatron_nlg.studies.sweep.rules import Rules

    group.add_argument(
        "--spike-window",
        type=int,
        default=Rules.spike_window,
        metavar="N",
        help="losses compared (default: %(default)s)",
    )
    group.add_argument(
        "--spike-factor", type=float, default=Rules.spike_factor, metavar="K", help="deviations (default: %(default)g)"
    )
    group.add_argument(
        "--spike-margin", type=float, default=Rules.spike_margin, metavar="X", help="nats (default: %(default)g)"
    )
    group.add_argument(
        "--worse", type=float, default=Rules.worse, metavar="X", help="nats above the best rate (default: %(default)g)"
    )
    group.add_argument(
        "--rise", type=float, default=Rules.rise, metavar="X", help="nats above its lowest level (default: %(default)g)"
    )


def _add_slurm(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--slurm", action="store_true", help=f"write DIR/{SCRIPT}: one job a run, --parallel at once")
    group.add_argument("--submit", action="store_true", help="and submit it")
    group.add_argument("--cluster", type=Path, metavar="FILE", help="cluster description, see configs/clusters")
    group.add_argument("--partition", help="partition that the jobs go to")
    group.add_argument("--account", help="account that is charged")
    group.add_argument("--time", help="time limit of a run in SLURM's notation, such as 30:00")
    group.add_argument("--cpus", type=int, metavar="N", help="CPUs of a run (default: its ranks)")
    group.add_argument("--task", type=int, metavar="I", help="do run I of the grid only: what the script's jobs call")


def run(args: argparse.Namespace) -> int:
    """Do the runs that are left, then draw what there is."""
    from megatron_nlg.studies.sweep.grid import grid_runs, parse_grid

    rules = _rules(args)
    _check_options(args)
    axes = parse_grid(args.grid, args.overrides)
    grid = grid_runs(axes)
    overrides = _shared(args)
    problems = _problems(args, grid, overrides)
    if args.list:
        print("\n".join(f"{run.name}  {' '.join(run.overrides)}" for run in grid))
        return 0
    if args.task is not None and not 0 <= args.task < len(grid):
        raise InputError(f"--task {args.task}: the grid has runs 0 to {len(grid) - 1}")
    chosen = grid if args.task is None else [grid[args.task]]
    runs = _runs(args, [run for run in chosen if run.name not in problems], overrides)
    if not runs:  # the one that a job of an array is for
        raise problems[chosen[0].name]
    _check_data(args, runs)
    if args.slurm:
        return _write_array(args, len(grid))
    whole = _settle(args, runs)
    rows = _draw(args, grid, axes, overrides, rules)
    if not whole:
        print("stopped; the same command goes on", file=sys.stderr)
        return 3
    names = {run.name for run in chosen}
    return int(any(row.verdict.word in ("failed", "unfinished") for row in rows if row.name in names))


def _rules(args: argparse.Namespace) -> Rules:
    from megatron_nlg.studies.sweep.rules import Rules

    if args.spike_window < 8:
        raise InputError(f"--spike-window {args.spike_window}: fewer losses than 8 have no usable deviation")
    for name in ("spike_factor", "spike_margin", "rise", "worse"):
        if not getattr(args, name) > 0:
            raise InputError(f"--{name.replace('_', '-')} {getattr(args, name):g}: must be above 0")
    return Rules(args.spike_window, args.spike_factor, args.spike_margin, args.rise, args.worse)


def _check_options(args: argparse.Namespace) -> None:
    for name in ("parallel", "nproc", "cpus"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise InputError(f"--{name} {value}: at least 1 is expected")
    if not args.slurm:
        for name in ("submit", "cluster", "partition", "account", "time", "cpus"):
            if getattr(args, name):
                raise InputError(f"--{name}: is for --slurm")


def _shared(args: argparse.Namespace) -> list[str]:
    """Overrides of all runs: the user's, and one folder of sample indices for all."""
    from megatron_nlg.config.base import apply_overrides, read_yaml

    tree = apply_overrides(read_yaml(args.config), args.overrides)
    data = tree.get("data")
    if isinstance(data, dict) and data.get("index_cache"):
        return list(args.overrides)
    return [*args.overrides, f"data.index_cache={(args.out / INDEX).resolve()}"]


def _problems(args: argparse.Namespace, grid: Sequence[GridRun], overrides: Sequence[str]) -> dict[str, ConfigError]:
    """Name -> what is wrong with a run's config. Raises the first where no run is left."""
    from megatron_nlg.studies.runs import resolved

    found = {}
    for run in grid:
        try:
            resolved(args.config, [*overrides, *run.overrides], args.nproc)
        except ConfigError as error:
            found[run.name] = error
    if len(found) == len(grid):
        raise next(iter(found.values()))
    return found


def _runs(args: argparse.Namespace, grid: Sequence[GridRun], overrides: Sequence[str]) -> list[Run]:
    from megatron_nlg.studies.runs import Run

    return [Run(run.name, args.out / run.name, args.config, (*overrides, *run.overrides), args.nproc) for run in grid]


def _check_data(args: argparse.Namespace, runs: Sequence[Run]) -> None:
    """What would make every run fail is said once, and none is started."""
    from megatron_nlg.data.plan import make_plan
    from megatron_nlg.studies.runs import resolved
    from megatron_nlg.training.command import make_run_folder

    config = resolved(runs[0].config, runs[0].overrides)
    if config.task == "pretraining":
        make_plan(config, None)
    make_run_folder(args.out)


def _settle(args: argparse.Namespace, runs: Sequence[Run]) -> bool:
    """Do what is left, saying how it goes. Returns False when a signal asked to stop."""
    from megatron_nlg.studies.progress import Counting
    from megatron_nlg.studies.runs import drop_checkpoints, read_outcome, settle

    with Counting(runs) as counting:

        def ended(run: Run, outcome: Outcome) -> None:
            counting.ended(run, outcome)
            if outcome.settled and not args.keep_checkpoints:
                drop_checkpoints(run.folder)

        whole = settle(runs, args.parallel, ended)
    if not args.keep_checkpoints:  # of runs that were killed between their end and this
        for run in runs:
            if (outcome := read_outcome(run.folder)) and outcome.settled:
                drop_checkpoints(run.folder)
    return whole


def _draw(
    args: argparse.Namespace, grid: Sequence[GridRun], axes: Sequence[Axis], overrides: Sequence[str], rules: Rules
) -> list[Row]:
    """Tables, pictures and the page of all that is there. Jobs of an array do this one at a time."""
    from rich.console import Console

    from data_prep.files import write_json, write_text
    from megatron_nlg.studies.runs import locked
    from megatron_nlg.studies.sweep.page import page, terminal_tables
    from megatron_nlg.studies.sweep.results import csv_text, read_rows_of, stable_rates

    with locked(args.out):
        rows = read_rows_of(args.config, overrides, grid, args.out, rules)
        stable = stable_rates(rows, axes, rules)
        write_json(args.out / RESULTS, results_tree(args, axes, rows, stable, rules))
        write_text(args.out / TABLE, csv_text(rows))
        write_text(args.out / PAGE, page(f"Sweep of {args.config.stem}", args.out, rows, stable, axes, rules))
    if args.task is None:
        console = Console(width=None if sys.stdout.isatty() else 160)
        for table in terminal_tables(rows, stable):
            console.print(table)
        print(args.out / PAGE)
    return rows


def results_tree(
    args: argparse.Namespace, axes: Sequence[Axis], rows: Sequence[Row], stable: Sequence[Any], rules: Rules
) -> dict[str, Any]:
    """Everything as JSON; losses to four digits after the point."""
    return {
        "config": args.config.name,
        "overrides": list(args.overrides),
        "axes": [{"name": a.name, "keys": list(a.keys), "points": [p.label for p in a.points]} for a in axes],
        "rules": vars(rules),
        "runs": [row.tree() for row in rows],
        "largest_stable_rates": [{**vars(one), "labels": dict(one.labels)} for one in stable],
        "losses": {row.name: [loss if loss is None else round(loss, 4) for loss in row.losses] for row in rows},
    }


def _write_array(args: argparse.Namespace, count: int) -> int:
    """The sbatch file, and its job."""
    from launch.array import ArrayJob, array_script
    from launch.environment import environment
    from launch.submit import submit, write_script
    from megatron_nlg.config.cluster import Slurm, load_cluster

    cluster = load_cluster(args.cluster) if args.cluster else None
    slurm = cluster.slurm if cluster else Slurm()
    gpu_option = slurm.gpu_option if cluster and cluster.gpus_per_node else None
    grid = [word for text in args.grid for word in ("--grid", text)]
    rules = [f"--{name.replace('_', '-')}={value:g}" for name, value in vars(_rules(args)).items()]
    keep = ["--keep-checkpoints"] if args.keep_checkpoints else []
    words = [str(args.config.resolve()), *args.overrides, *grid, "--nproc", str(args.nproc), *rules, *keep]
    job = ArrayJob(
        words=("sweep", *words, "--out", str(args.out.resolve())),
        folder=args.out.resolve(),
        count=count,
        at_once=args.parallel,
        cpus=args.cpus or args.nproc,
        python=Path(sys.executable).absolute(),
        directory=Path.cwd(),
        partition=args.partition or slurm.partition,
        account=args.account or slurm.account,
        time=args.time or slurm.time,
        gpu_option=gpu_option.format(gpus=args.nproc) if gpu_option else None,
        environment=tuple(environment(cluster)) if cluster else (),
        setup=slurm.setup,
    )
    script = write_script(job.folder, SCRIPT, array_script(job))
    print(f"job {' '.join(submit(script))} from {script}" if args.submit else f"{script}: submit it with sbatch")
    return 0
