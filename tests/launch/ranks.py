"""Ranks without their seconds of imports: a process that has imported training forks each of them.

`rank_server` starts that process. `write_python` writes what takes the place of python in a job: it
has every rank forked with its own environment, folder and output, passes signals on, and ends as the rank does. A rank
whose stand-in is killed dies with it, as if it had been killed itself. What trains is the real thing.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.job import Job, can_fork, until

STAND_IN = """\
#!{python} -SE
import os, signal, socket, sys
if sys.argv[1:4] != ["-m", "megatron_nlg.cli", "train"]:
    os.execv("{python}", ["{python}", *sys.argv[1:]])
import json
server = socket.socket(socket.AF_UNIX)
server.connect("{socket}")
def tell(number, frame):
    server.send(bytes([number]))
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, tell)
about = json.dumps([sys.argv[3:], dict(os.environ), os.getcwd()]).encode()
socket.send_fds(server, [len(about).to_bytes(4, "big")], [1, 2])
server.sendall(about)
code = server.recv(1)
sys.exit(code[0] if code else 1)
"""


def write_python(path: Path, server: Path) -> None:
    """A program that stands in for this python, and has ranks forked."""
    path.write_text(STAND_IN.format(python=sys.executable, socket=server))
    path.chmod(0o755)


@contextlib.contextmanager
def rank_server(path: Path) -> Iterator[Path]:
    """The process that forks ranks, listening on a socket at `path`."""
    server = Job("tests.launch.ranks", [str(path)], {"OMP_NUM_THREADS": "1"}, fork=can_fork())
    try:
        until(path.exists, "training to be imported")
        yield path
    finally:
        server.kill()


def main(arguments: Sequence[str]) -> int:
    """Listen on the socket that is named, and fork a rank a request until this process is ended."""
    from megatron_nlg.parallel import supervisor

    supervisor.quiet_libraries()
    supervisor.prepare_fork()
    import megatron_nlg.training.trainer  # noqa: F401 - what takes the seconds

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who watch the ranks
    [path] = arguments
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{path}.new")
    listener.listen(64)
    Path(f"{path}.new").rename(path)
    while True:
        client, _ = listener.accept()
        if not os.fork():
            listener.close()
            watch(client)
        client.close()


def watch(client: socket.socket) -> None:
    """Fork the rank that a stand-in asks for, pass its signals on, and its exit code back."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, outputs, _, _ = socket.recv_fds(client, 4, 2)
    about = b""
    while len(about) < int.from_bytes(size, "big"):
        about += client.recv(1 << 16)
    rank = os.fork()
    if not rank:
        enter_namespaces(client)
        client.close()
        be_rank(*json.loads(about), outputs)
    ended = os.pidfd_open(rank)
    while ended not in (ready := select.select([client, ended], [], [])[0]):
        assert client in ready
        numbers = client.recv(16)
        for number in numbers or [signal.SIGKILL]:  # nothing more comes from a stand-in that is gone
            os.kill(rank, number)
        if not numbers:
            os._exit(1)
    status = os.waitpid(rank, 0)[1]
    code = os.waitstatus_to_exitcode(status)
    client.send(bytes([code if code >= 0 else 128 - code]))
    os._exit(0)


def enter_namespaces(client: socket.socket) -> None:
    """Where nodes have a network and a host name of their own, the rank belongs there, as its stand-in does."""
    (stand_in,) = struct.unpack("i8x", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    libc = ctypes.CDLL(None, use_errno=True)
    for kind in ("net", "uts", "mnt"):
        path = Path(f"/proc/{stand_in}/ns/{kind}")
        if path.readlink() != Path(f"/proc/self/ns/{kind}").readlink():
            namespace = os.open(path, os.O_RDONLY)
            assert not libc.setns(namespace, 0), os.strerror(ctypes.get_errno())
            os.close(namespace)


def be_rank(arguments: list[str], environment: dict[str, str], folder: str, outputs: list[int]) -> None:
    from megatron_nlg import cli

    for number, output in enumerate(outputs, start=1):
        os.dup2(output, number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    code = cli.main(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
