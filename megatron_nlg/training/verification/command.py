"""`megatron-nlg verify`: does this config train the same model in every layout, on this machine, with these versions?

Every layout runs in processes of its own, so that one that hangs or crashes is a row of the table and not its end:
forked by the supervisor on one machine; where srun or torchrun has started the ranks, each rank starts one process a
layout, which meet on the next port.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megatron_nlg.config.errors import InputError, MegatronNlgError

if TYPE_CHECKING:
    from megatron_nlg.config.schema import RunConfig
    from megatron_nlg.parallel.supervisor import Terminal
    from megatron_nlg.training.verification.layouts import Candidate

REFERENCE = "reference"
"""Folder of the reference's weights, while layouts are compared with them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("config", type=Path, metavar="CONFIG", help="run config (YAML); its corpus is not read")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the file's")
    parser.add_argument("--nproc", type=int, metavar="N", help="local ranks at most (default: one a GPU, else 1)")
    parser.add_argument("--layouts", default="12", metavar="N", help="layouts to sample, or `all` (default: 12)")
    parser.add_argument("--steps", type=int, default=6, metavar="N", help="steps in each (default: 6)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep verify.json, verify.png and the logs here")
    parser.add_argument("--list", action="store_true", help="name the layouts and run none")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)  # the process of one layout under a launcher
    parser.epilog = (
        "exit codes: 0 all equal, 1 not, 2 bad input, 3 stopped by a signal. "
        "Dropout is switched off; batches are synthetic"
    )


def run(args: argparse.Namespace) -> int:
    """Run the reference and every layout, print the table, say the verdict."""
    from megatron_nlg.config.validate import load_config
    from megatron_nlg.parallel import supervisor
    from megatron_nlg.parallel.rendezvous import Rendezvous
    from megatron_nlg.training.command import make_run_folder

    supervisor.quiet_libraries()
    if args.steps < 1:
        raise InputError(f"--steps {args.steps}: must be 1 or more")
    who = Rendezvous.from_environment()
    config = load_config(args.config, args.overrides)
    config = config.model_copy(update={"model": config.model.model_copy(update={"dropout": 0.0})})
    ranks = who.world_size if who else supervisor.local_ranks(args.nproc)
    chosen = choose(config, ranks, args.layouts, exactly=who is not None)
    if args.list:
        print("\n".join(candidate.name for candidate in chosen))
        return 0
    if args.one is not None:
        return _one(config, chosen, args)
    with tempfile.TemporaryDirectory(prefix="megatron-nlg-") as temporary:
        folder = args.out or Path(temporary)
        make_run_folder(folder)
        if who is None:
            supervisor.prepare_fork()
            import megatron_nlg.training.verification.measure  # noqa: F401  forked ranks share it
        elif args.out is None:
            raise InputError("--out: is required under srun or torchrun; name a folder that all nodes share")
        is_main = who is None or who.rank == 0
        if is_main:  # of an earlier call, perhaps after more steps
            shutil.rmtree(folder / REFERENCE, ignore_errors=True)
        try:
            curves, failures = _curves(config, chosen, folder, args, who.rank if who else None)
        finally:
            if is_main:
                shutil.rmtree(folder / REFERENCE, ignore_errors=True)
        return 0 if who and who.rank else _report(config, chosen, curves, failures, folder, args)


def choose(config: RunConfig, ranks: int, count: str, exactly: bool) -> list[Candidate]:
    """The reference, then a sample of the legal layouts: on exactly these ranks, or on any divisor of their number.

    The reference is one rank where that is allowed, else plain data parallelism, else the config's own layout.
    """
    from megatron_nlg.training.verification.layouts import legal_layouts, sample

    numbers = [ranks] if exactly else [n for n in range(1, ranks + 1) if ranks % n == 0]
    if count != "all" and not (count.isdecimal() and int(count) > 0):
        raise InputError(f"--layouts {count}: a number of layouts, or all")
    legal = legal_layouts(config, numbers)
    if not legal:
        raise InputError(
            f"model.num_layers {config.model.num_layers}, batch.global {config.batch.global_} and batch.micro "
            f"{config.batch.micro} allow no layout on {ranks} ranks; change one of them, or --nproc"
        )
    plain = min(legal, key=lambda c: (c.ranks, c.parallel.tensor * c.parallel.pipeline, c.parallel.context, c.name))
    others = [candidate for candidate in legal if candidate != plain]
    return [plain, *(others if count == "all" else sample(others, int(count)))]


def _curves(
    config: RunConfig, chosen: list[Candidate], folder: Path, args: argparse.Namespace, rank: int | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """Name -> curve of each layout that ran, and name -> reason of each that did not."""
    from rich.console import Console

    curves: dict[str, Any] = {}
    failures: dict[str, str] = {}
    console = Console(stderr=True, quiet=bool(rank) or not sys.stderr.isatty())
    with console.status("starting") as status:
        for number, candidate in enumerate(chosen):
            status.update(f"{number + 1} of {len(chosen)}: {candidate.name}")
            result = folder / "logs" / f"{number}.json"
            result.unlink(missing_ok=True)
            try:
                if rank is None:
                    _supervised(config, candidate, folder, number, args.steps)
                else:
                    _under_a_launcher(number)
                curves[candidate.name] = json.loads(result.read_text(encoding="utf-8")) if not rank else {}
            except (MegatronNlgError, OSError, ValueError) as error:
                failures[candidate.name] = str(error).partition("\n")[0]
                if number == 0:
                    raise MegatronNlgError(f"the reference {candidate.name} failed: {error}") from None
    return curves, failures


def _supervised(config: RunConfig, candidate: Candidate, folder: Path, number: int, steps: int) -> None:
    from megatron_nlg.parallel import supervisor

    body = partial(_body, config, candidate, folder, number, steps)
    if supervisor.supervise(body, folder / "logs", candidate.ranks) == supervisor.STOPPED:
        sys.exit(supervisor.STOPPED)


def _under_a_launcher(number: int) -> None:
    """Run this command again for one layout, as the rank that this process is, on the next port."""
    port = int(os.environ["MASTER_PORT"]) + 1 + number
    environment = os.environ | {"MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "False"}
    command = [sys.executable, "-m", "megatron_nlg.cli", *sys.argv[1:], "--one", str(number)]
    done = subprocess.run(command, env=environment, check=False)
    if done.returncode:
        raise MegatronNlgError(f"exit code {done.returncode}")


def _one(config: RunConfig, chosen: list[Candidate], args: argparse.Namespace) -> int:
    from megatron_nlg.parallel import supervisor

    body = partial(_body, config, chosen[args.one], args.out, args.one, args.steps)
    return supervisor.be_rank(body, args.out / "logs")


def _body(config: RunConfig, candidate: Candidate, folder: Path, number: int, steps: int, terminal: Terminal) -> int:
    """Measure one layout as this process's rank; rank 0 leaves the result."""
    import torch.distributed as dist

    from megatron_nlg.training.callbacks.metrics import replace_text
    from megatron_nlg.training.verification.measure import measure

    own = config.model_copy(update={"parallel": candidate.parallel})
    curve = measure(own, steps, folder / REFERENCE, is_reference=number == 0)
    if dist.get_rank() == 0:
        replace_text(folder / "logs" / f"{number}.json", json.dumps(curve))
    dist.barrier()
    return 0


def _report(
    config: RunConfig,
    chosen: list[Candidate],
    curves: dict[str, Any],
    failures: dict[str, str],
    folder: Path,
    args: argparse.Namespace,
) -> int:
    """The table, the files of --out, the verdict as an exit code."""
    from rich.console import Console
    from rich.table import Table

    from megatron_nlg.training.callbacks.metrics import replace_text
    from megatron_nlg.training.verification.compare import COLUMNS, LIMITS, compare
    from megatron_nlg.training.verification.plot import draw

    limits, reference = LIMITS[config.precision], chosen[0].name
    table = Table(box=None, header_style="bold")
    for heading in ("layout", "ranks", *COLUMNS, "verdict"):
        table.add_column(heading.replace("_", " "), justify="left" if heading in ("layout", "verdict") else "right")
    table.add_row("limit", "", *(f"{limits[c]:.0e}" for c in COLUMNS), "", style="dim")
    verdicts = {name: compare(curve, curves[reference], config.precision) for name, curve in curves.items()}
    for candidate in chosen:
        verdict = verdicts.get(candidate.name)
        cells = [f"{verdict.differences[c]:.1e}" if verdict and c in verdict.differences else "" for c in COLUMNS]
        bad = verdict is None or not verdict.equal
        word = "reference" if candidate is chosen[0] else "equal"
        if bad:
            word = f"NOT EQUAL: {', '.join(verdict.beyond)}" if verdict else "failed"
        table.add_row(candidate.name, str(candidate.ranks), *cells, word, style="red" if bad else None)
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    for name, reason in failures.items():
        print(f"{name}: {reason}")
    if args.out:
        rows = {n: {**curves[n], "differences": v.differences, "beyond": v.beyond} for n, v in verdicts.items()}
        record = {"config": config.model_dump(mode="json", by_alias=True), "steps": args.steps, "reference": reference}
        text = json.dumps({**record, "limits": limits, "layouts": rows, "failed": failures})
        finite = json.loads(text, parse_constant=lambda _: None)  # JSON knows no NaN
        replace_text(folder / "verify.json", json.dumps(finite, indent=1) + "\n")
        draw(folder / "verify.png", args.config.stem, curves, reference, limits["loss"])
    good = sum(verdict.equal for verdict in verdicts.values()) - 1
    print(f"{good} of {len(chosen) - 1} layouts are equal to {reference} over {args.steps} steps in {config.precision}")
    return 0 if good == len(chosen) - 1 else 1
