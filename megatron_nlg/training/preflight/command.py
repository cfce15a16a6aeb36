"""`megatron-nlg preflight`: are the nodes of this allocation fit to train on?

Started once a rank by srun or torchrun, as training is; without them it starts local ranks itself.
"""

from __future__ import annotations

import argparse
import json
import os
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from megatron_nlg.config.errors import InputError, NodeFaultError

if TYPE_CHECKING:
    from megatron_nlg.parallel.supervisor import Terminal
    from megatron_nlg.training.preflight.verdict import Verdict


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--run", type=Path, required=True, metavar="RUN", help="run folder: its disk is tried")
    parser.add_argument("--out", type=Path, metavar="FILE", help="verdict as JSON (default: RUN/preflight.json)")
    parser.add_argument("--nproc", type=int, metavar="N", help="local ranks to start, where no srun or torchrun did")
    parser.add_argument("--nodes-file", type=Path, metavar="FILE", help="nodes that must answer, one a line")
    parser.add_argument(
        "--leaves", type=Path, metavar="FILE", help='nodes by leaf switch, as JSON: {"leaf1": ["node1", "node2"], …}'
    )
    parser.add_argument(
        "--spares", type=int, default=0, metavar="K", help="nodes that may be bad (default %(default)s)"
    )
    parser.add_argument("--gpus", type=int, metavar="G", help="GPUs that a node must have (default: its ranks')")
    parser.add_argument(
        "--slow", type=float, metavar="S", help="share of the median below which a node is slow (0.8, on CPUs 0.2)"
    )
    parser.add_argument("--rounds", type=int, default=7, metavar="R", help="rounds of pairs in leaves and across")
    parser.add_argument("--patience", type=float, default=60.0, metavar="SECONDS", help="how long ranks are waited for")
    parser.epilog = "exit codes: 0 enough good nodes, 2 bad input, 4 more bad nodes than spares"


def run(args: argparse.Namespace) -> int:
    """Look at the nodes. Returns the exit code; on other ranks than the first always 0."""
    from megatron_nlg.parallel import supervisor
    from megatron_nlg.parallel.rendezvous import Rendezvous

    supervisor.quiet_libraries()
    for option, value in (("--spares", args.spares), ("--rounds", args.rounds)):
        if value < 0:
            raise InputError(f"{option} {value}: a number from 0 is expected")
    for name, value, most in (("--slow", args.slow, 1.0), ("--patience", args.patience, float("inf"))):
        if value is not None and not 0 < value <= most:
            raise InputError(f"{name} {value:g}: a number above 0{' and at most 1' if most == 1 else ''} is expected")
    if args.out and not args.out.parent.is_dir():
        raise InputError(f"--out {args.out}: there is no folder {args.out.parent}")
    expected = _lines(args.nodes_file) if args.nodes_file else []
    leaves = _leaves(args.leaves) if args.leaves else ()
    logs = args.run / "logs" / "preflight"
    try:
        logs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--run {args.run}: can't be written: {error.strerror}") from None
    body = partial(look, args, expected, leaves)
    if Rendezvous.from_environment() is not None:
        return supervisor.be_rank(body, logs)
    ranks = supervisor.local_ranks(args.nproc)
    supervisor.prepare_fork()
    import megatron_nlg.training.preflight.meeting
    import megatron_nlg.training.preflight.probe  # noqa: F401

    return supervisor.supervise(body, logs, ranks)


def look(args: argparse.Namespace, expected: list[str], leaves: tuple[tuple[str, ...], ...], terminal: Terminal) -> int:
    """This rank's part."""
    from torch.distributed.rendezvous import rendezvous

    from megatron_nlg.parallel.device import select_device
    from megatron_nlg.parallel.rendezvous import Rendezvous
    from megatron_nlg.training.preflight.meeting import Meeting, Wanted
    from megatron_nlg.training.preflight.probe import Probe

    who = Rendezvous.from_environment() or Rendezvous()
    device = select_device(who.local_rank, who.local_ranks)
    on_gpu = device.torch.type == "cuda"
    wanted = Wanted(
        folder=args.run,
        gpus=args.gpus if args.gpus is not None else who.local_ranks if on_gpu else 0,
        leaves=leaves,
        most_rounds=args.rounds,
        slow=args.slow or (0.8 if on_gpu else 0.2),
        patience=args.patience,
    )
    store, _, _ = next(iter(rendezvous("env://", who.rank, who.world_size, timeout=timedelta(seconds=args.patience))))
    verdict = Meeting(who, store, Probe(device, args.patience), wanted).hold(expected)
    return _say(args, verdict, expected, terminal) if verdict is not None else 0


def _say(args: argparse.Namespace, verdict: Verdict, expected: list[str], terminal: Terminal) -> int:
    path = args.out or args.run / "preflight.json"
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(verdict.to_json(), indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)
    for node, reason in verdict.bad.items():
        print(f"bad node {node}: {reason}", file=terminal.err)
    for note in verdict.notes:
        print(f"note: {note}", file=terminal.err)
    print(f"preflight: {len(verdict.good)} good nodes, {len(verdict.bad)} bad ({path})", file=terminal.err)
    if len(verdict.bad) > args.spares or not verdict.good:
        raise NodeFaultError(f"{len(verdict.bad)} bad nodes, {args.spares} may be: {', '.join(verdict.bad)}")
    return 0


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--nodes-file {path}: can't be read: {error}") from None


def _leaves(path: Path) -> tuple[tuple[str, ...], ...]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"--leaves {path}: can't be read: {error}") from None
    leaves = list(found.values()) if isinstance(found, dict) else [None]
    if not all(isinstance(leaf, list) and all(isinstance(name, str) for name in leaf) for leaf in leaves):
        raise InputError(f'--leaves {path}: an object of lists of node names is expected, such as {{"leaf1": ["n1"]}}')
    return tuple(tuple(leaf) for leaf in found.values())
