"""A private SLURM of several nodes on this machine: own munged, slurmctld and a slurmd per node, real sbatch and srun.

Needs Debian's slurmctld, slurmd, slurm-client and munge; no systemd, no cgroups, no root. Listens on loopback only, and
everything it writes lies in one folder, which `stop` removes. Ready in about two seconds.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

CONTROLLER = "controller"
DAEMONS = ("munged", "slurmctld", "slurmd")
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "BOOT_FAIL")


def which(name: str) -> str | None:
    """A daemon's path; Debian puts them where only root looks."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))


def missing() -> list[str]:
    """Programs that are not installed."""
    return [name for name in (*DAEMONS, "sbatch", "srun", "scontrol") if which(name) is None]


class MiniSlurm:
    """The cluster. `start` it, use `run` for SLURM's commands and `submit` and `wait` for jobs, `stop` it."""

    def __init__(self, nodes: int = 4, gpus: int = 2):
        self.nodes, self.gpus = nodes, gpus
        # Neighbours by name lie under different switches, as they do in clusters that have grown.
        self.leaves = [[f"node{number}" for number in range(leaf, nodes + 1, 2)] for leaf in (1, 2)]
        # A Unix socket's path has at most 107 characters: not below pytest's long ones.
        self.root = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_", "SRUN_"))}
        self.env["SLURM_CONF"] = str(self.root / "slurm.conf")
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._slurmds: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start all daemons and wait until every node is idle."""
        for name in ("log", "state", "spool", "dev"):
            (self.root / name).mkdir()
        for gpu in range(self.gpus):  # GPUs for SLURM to hand out, and nothing behind them
            (self.root / "dev" / f"nvidia{gpu}").symlink_to("/dev/null")
        self._write_config(_free_ports(self.nodes + 1))
        key = self.root / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        self._daemon(
            *("munged", "--foreground", "--force", "--num-threads=2"),
            *(f"--key-file={key}", f"--socket={self.root}/munge.sock", f"--seed-file={self.root}/munge.seed"),
            *(f"--pid-file={self.root}/munged.pid", f"--log-file={self.root}/log/munged.log"),
        )
        wait_until((self.root / "munge.sock").exists, 10, "munged to listen")
        self._daemon("slurmctld", "-D", "-i", "-f", self.env["SLURM_CONF"], at=CONTROLLER)
        for number in range(1, self.nodes + 1):
            (self.root / "spool" / f"node{number}").mkdir()
            self.start_node(f"node{number}")
        wait_until(self._is_ready, 60, f"all nodes to be idle (logs: {self.root}/log)")

    def start_node(self, name: str) -> None:
        """Start a node's slurmd, also again."""
        self._slurmds[name] = self._daemon("slurmd", "-D", "-f", self.env["SLURM_CONF"], "-N", name, at=name)

    def _address(self, name: str) -> tuple[str, str]:
        """Host name and address of a node or of the controller: all have the machine's, and ports tell them apart."""
        return socket.gethostname(), "127.0.0.1"

    def _at(self, name: str, command: list[str]) -> list[str]:
        """A command that runs the command on a node, or where the controller is."""
        return command

    def kill_node(self, name: str) -> None:
        """What a power cut does: everything on the node is gone, and says nothing."""
        dead = self._slurmds.pop(name)
        self._daemons.remove(dead)
        dead.kill()
        dead.wait()
        there = {"SLURM_CONF": self.env["SLURM_CONF"], "SLURMD_NODENAME": name}
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.name() == "slurmstepd":  # whose title lies where its environment was
                    if any(f"{self.root}/spool/{name}/" in at.laddr for at in process.net_connections("unix")):
                        found.insert(0, process)  # before what it would report the end of
                elif there.items() <= process.environ().items():
                    found.append(process)
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()

    def stop(self) -> None:
        """End all jobs and daemons and remove every trace."""
        with contextlib.suppress(Exception):
            self.run("scancel", "--state=RUNNING,PENDING", f"--user={getpass.getuser()}")
            wait_until(lambda: not self.run("squeue", "--noheader"), 30, "the queue to empty")
        for group in (self._daemons[2:], self._daemons[1:2], self._daemons[:1]):  # munged last: the others need it
            _end(group)
        for process in self._leftovers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        shutil.rmtree(self.root, ignore_errors=True)

    def run(self, *command: str, timeout: float = 30) -> str:
        """What one of SLURM's commands prints; raises CalledProcessError when it fails."""
        done = subprocess.run(command, env=self.env, check=True, capture_output=True, text=True, timeout=timeout)
        return done.stdout.strip()

    def submit(self, *arguments: str) -> int:
        """The id of a new job; `arguments` are sbatch's."""
        return int(self.run("sbatch", "--parsable", *arguments))

    def job(self, number: int) -> dict[str, str]:
        """What SLURM says of a job: JobState, ExitCode, Restarts, ..."""
        return dict(re.findall(r"(\S+?)=(\S*)", self.run("scontrol", "-o", "show", "job", str(number))))

    def nodes_of(self, job: dict[str, str]) -> list[str]:
        """Names of a job's nodes, in SLURM's order."""
        return self.run("scontrol", "show", "hostnames", job["NodeList"]).split()

    def wait(self, number: int, timeout: float = 120) -> dict[str, str]:
        """Wait until a job has ended; its description."""
        wait_until(lambda: self.job(number)["JobState"] in ENDED, timeout, f"job {number} to end")
        return self.job(number)

    def _leftovers(self) -> list[int]:
        """Processes that still have this cluster's configuration in their environment: steps that would not end."""
        mark, found = f"SLURM_CONF={self.env['SLURM_CONF']}".encode(), []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mark in path.read_bytes().split(b"\0") and int(path.parent.name) != os.getpid():
                    found.append(int(path.parent.name))
        return found

    def _daemon(self, name: str, *arguments: str, at: str | None = None) -> subprocess.Popen[bytes]:
        program = which(name)
        assert program is not None
        command = [program, *arguments] if at is None else self._at(at, [program, *arguments])
        with (self.root / "log" / f"{name}.out").open("ab") as log:
            daemon = subprocess.Popen(
                command, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
            )
        self._daemons.append(daemon)
        return daemon

    def _is_ready(self) -> bool:
        died = [daemon.args for daemon in self._daemons if daemon.poll() is not None]
        if died:
            logs = "\n".join(path.read_text()[-2000:] for path in (self.root / "log").iterdir())
            raise RuntimeError(f"{died} ended at once\n{logs}")
        try:
            states = self.run("sinfo", "--noheader", "--partition=main", "--format=%T %D")
        except subprocess.CalledProcessError:
            return False
        return states.split() == ["idle", str(self.nodes)]

    def _write_config(self, ports: list[int]) -> None:
        user, root = getpass.getuser(), self.root
        controller, where = self._address(CONTROLLER)
        node = "Sockets=2 CoresPerSocket=4 ThreadsPerCore=1 CPUs=8 RealMemory=2000 State=UNKNOWN"
        gres = f"Gres=gpu:fake:{self.gpus}" if self.gpus else ""
        lines = ""
        for number, port in enumerate(ports[1:], 1):
            host, address = self._address(f"node{number}")
            lines += f"NodeName=node{number} NodeHostname={host} NodeAddr={address} Port={port} {node} {gres}\n"
        (root / "gres.conf").write_text(
            f"NodeName=node[1-{self.nodes}] Name=gpu Type=fake File={root}/dev/nvidia[0-{self.gpus - 1}]\n"
            if self.gpus
            else ""
        )
        (root / "cgroup.conf").write_text("")
        leaves = [f"SwitchName=leaf{leaf} Nodes={','.join(nodes)}\n" for leaf, nodes in enumerate(self.leaves, 1)]
        (root / "topology.conf").write_text("".join([*leaves, "SwitchName=spine Switches=leaf[1-2]\n"]))
        (root / "slurm.conf").write_text(f"""\
ClusterName=mini
SlurmctldHost={controller}({where})
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
# A requeued job starts again when its credential has expired: after 8 s, not 2 minutes (less than 8 is not honoured).
AuthInfo=socket={root}/munge.sock,cred_expire=8
StateSaveLocation={root}/state
SlurmctldPidFile={root}/slurmctld.pid
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdSpoolDir={root}/spool/%n
SlurmdPidFile={root}/slurmd.%n.pid
SlurmdLogFile={root}/log/slurmd.%n.log
# Eight CPUs are claimed for every node, whatever the machine has.
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
TopologyPlugin=topology/tree
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
GresTypes=gpu
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SchedulerParameters=sched_interval=2,sched_min_interval=0,batch_sched_delay=0,bf_interval=2,requeue_setup_env_fail
ReturnToService=2
# A node that died is noticed after 25 s or so: 5 would be no faster.
SlurmdTimeout=15
InactiveLimit=0
KillWait=5
MinJobAge=3600
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{lines}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
""")


def _end(daemons: list[subprocess.Popen[bytes]]) -> None:
    for daemon in daemons:
        daemon.terminate()
    for daemon in daemons:
        try:
            daemon.wait(10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def _free_ports(count: int) -> list[int]:
    """Neighbouring ports of loopback on which nothing listens, below the kernel's range of passing ones."""
    for _ in range(100):
        first = random.randrange(16000, 30000 - count)
        with contextlib.ExitStack() as sockets, contextlib.suppress(OSError):
            for port in range(first, first + count):
                sockets.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return list(range(first, first + count))
    raise RuntimeError("no free ports")


def wait_until(condition: Callable[[], object], timeout: float, what: str) -> None:
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout} s for {what}")
        time.sleep(0.1)
