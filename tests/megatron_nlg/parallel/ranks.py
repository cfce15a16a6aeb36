"""`python -m tests.megatron_nlg.parallel.ranks BODY LOGS RANKS`: a supervised job with a body that a test names.

Ends as the command does: one line on stderr and the error's exit code. With RANKS 0 this process is itself the rank
that its environment says.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from megatron_nlg.config.errors import InputError, MegatronNlgError, NumericError
from megatron_nlg.parallel import supervisor
from megatron_nlg.parallel.rendezvous import Rendezvous
from megatron_nlg.parallel.supervisor import STOPPED, Terminal


def deaf() -> None:
    """As training does after a failure: stop signals are caught and change nothing."""
    for number in supervisor.STOP_SIGNALS:
        signal.signal(number, lambda got, frame: None)


def wait_for_signal() -> int:
    caught: list[int] = []
    for number in supervisor.STOP_SIGNALS:
        signal.signal(number, lambda got, frame: caught.append(got))
    (Path(os.environ["READY"]) / str(os.getpid())).touch()
    while not caught:
        time.sleep(0.02)
    print("caught", signal.Signals(caught[0]).name)
    return STOPPED


def hang() -> int:
    deaf()
    (Path(os.environ["READY"]) / str(os.getpid())).touch()
    time.sleep(1000)
    return 0


def fail_on_last(how: str, rank: int, last: int) -> int:
    """The last rank fails in some way; the others are stuck, or fail because of it."""
    if rank != last:
        if how == "peers fail first":
            raise RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer")
        time.sleep(1000)
    if how == "input":
        raise InputError("data.blend: none.yaml: no such file; name another one")
    if how == "bug":
        raise ZeroDivisionError("division by zero")
    if how == "full":
        raise OSError(errno.ENOSPC, "No space left on device", "/data/metrics.jsonl")
    time.sleep(0.5)  # "peers fail first"
    raise MegatronNlgError("the cause")


def die_at_first(how: str, rank: int) -> int:
    """The first time rank 1 is lost in some way; the second time all is well."""
    first = Path(os.environ["READY"]) / f"{how} {rank}"
    if first.exists():
        return 0
    first.touch()
    if rank != 1:
        time.sleep(1000)
    if how == "diverges once":
        raise NumericError("the loss is nan")
    os.kill(os.getpid(), signal.SIGKILL)
    return 1


def told_before_ranks_start() -> None:
    run = supervisor._run_ranks

    def told(*arguments: Any) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return run(*arguments)

    supervisor._run_ranks = told


def body(name: str, terminal: Terminal) -> int:
    who = Rendezvous.from_environment() or Rendezvous()
    print(f"rank {who.rank} of {who.world_size}")
    if name == "done":
        print("said on the terminal", file=terminal.out)
        return 0
    if name == "all input":
        raise InputError("seed: is wrong; choose another")
    if name == "half stopped":
        return STOPPED if who.rank else 7
    if name in ("wait", "told early"):
        return wait_for_signal()
    if name.endswith("once"):
        return die_at_first(name, who.rank)
    if name == "hang":
        return hang()
    return fail_on_last(name, who.rank, who.world_size - 1)


def main(arguments: Sequence[str]) -> int:
    name, logs, ranks = arguments
    logs_folder = Path(logs)
    if not int(ranks):
        return supervisor.be_rank(partial(body, name), logs_folder)
    if name == "told early":
        told_before_ranks_start()
    try:
        return supervisor.supervise(
            partial(body, name), logs_folder, int(ranks), None, int(os.environ.get("RESTARTS", "0"))
        )
    except MegatronNlgError as error:
        print(f"ranks: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
