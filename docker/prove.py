#!/usr/bin/env python3
"""Runs a Dockerfile's instructions in a Debian root, where there is no Docker engine. Needs root.

    debootstrap --variant=minbase --include=python3-dev,python3-venv,ca-certificates bookworm BASE
    docker/prove.py docker/Dockerfile.cpu BASE WORK [--bind FOLDER]... [--arg NAME=VALUE]... [--command COMMAND...]

Every stage starts as a copy of BASE, which stands for the image that FROM names; RUN lines are executed in it, in a
mount namespace of their own. At the end COMMAND is run as the image's entry point would run it. What this can't show:
the base image itself, and Docker's own handling of layers.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
Instruction = tuple[int, str, str]
"""Line, name, rest."""


@dataclass
class Stage:
    """One FROM and what followed."""

    root: Path
    env: dict[str, str] = field(
        default_factory=lambda: {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    )
    folder: str = "/"
    user: str = "0"
    entry: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)

    def inside(self, path: str) -> Path:
        """A path of the image on this machine."""
        return self.root / os.path.normpath(Path("/", self.folder, path)).lstrip("/")


def instructions(text: str) -> list[Instruction]:
    """A Dockerfile's instructions; comments are left out and continued lines joined. Raises ValueError."""
    out: list[Instruction] = []
    held, first = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#") or (not line.strip() and not held):
            continue
        first = first or number
        held += line.rstrip().removesuffix("\\") + ("\n" if line.rstrip().endswith("\\") else "")
        if line.rstrip().endswith("\\"):
            continue
        name, _, rest = held.strip().partition(" ")
        if not rest or not name.isalpha():
            raise ValueError(f"line {first}: an instruction with its argument is expected, not {held.strip()!r}")
        out.append((first, name.upper(), rest.strip().replace("\n", " ")))
        held, first = "", 0
    if held:
        raise ValueError(f"line {first}: the last line is continued, and nothing follows")
    return out


def expand(text: str, values: dict[str, str]) -> str:
    """${NAME} and $NAME as ARG and ENV have set them; others are left to the shell."""
    return re.sub(r"\$\{(\w+)\}|\$(\w+)", lambda m: values.get(m[1] or m[2], m[0]), text)


class Prover:
    """Builds the stages one after the other."""

    def __init__(self, base: Path, work: Path, context: Path, binds: list[str], given: dict[str, str]):
        self.base, self.work, self.context, self.binds, self.given = base, work, context, binds, given
        self.args: dict[str, str] = {}
        self.stages: dict[str, Stage] = {}
        self.now = Stage(base)
        ignore = context / ".dockerignore"
        self.ignore = ignore.read_text().split("\n") if ignore.exists() else []

    def run(self, name: str, rest: str) -> None:
        """Do what an instruction says. Raises ValueError for one that is not known here."""
        method = getattr(self, f"do_{name.lower()}", None)
        if method is None:
            raise ValueError(f"{name}: not known here")
        method(rest if name in ("RUN", "ENTRYPOINT", "CMD") else expand(rest, {**self.args, **self.now.env}))

    def do_from(self, rest: str) -> None:
        words = rest.split()
        name = words[2] if len(words) == 3 else f"stage{len(self.stages)}"
        root = self.work / name
        subprocess.run(["cp", "-a", "--reflink=auto", f"{self.base}/.", root], check=True)
        self.stages[name] = self.now = Stage(root)

    def do_arg(self, rest: str) -> None:
        name, _, value = rest.partition("=")
        self.args[name] = self.given.get(name, value.strip('"'))

    def do_env(self, rest: str) -> None:
        self.now.env.update(word.split("=", 1) for word in shlex.split(rest))

    def do_workdir(self, rest: str) -> None:
        self.now.folder = str(Path(self.now.folder, rest))
        self.now.inside(".").mkdir(parents=True, exist_ok=True)

    def do_user(self, rest: str) -> None:
        self.now.user = rest

    def do_entrypoint(self, rest: str) -> None:
        self.now.entry = json.loads(rest)

    def do_cmd(self, rest: str) -> None:
        self.now.command = json.loads(rest)

    def do_copy(self, rest: str) -> None:
        words = shlex.split(rest)
        if words[0].startswith("--from="):
            source = self.stages[words.pop(0).partition("=")[2]].root
            subprocess.run(["cp", "-a", f"{source}{words[0]}", self.now.inside(words[1])], check=True)
            return
        for path in sorted(self.context.rglob("*")):
            name = path.relative_to(self.context)
            if path.is_file() and not self._ignored(str(name)):
                target = self.now.inside(words[1]) / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target)

    def _ignored(self, name: str) -> bool:
        """Docker's rule: the last pattern that fits the path, or a folder above it, decides."""
        parts = name.split("/")
        above = ["/".join(parts[: i + 1]) for i in range(len(parts))]
        out = False
        for pattern in (line.strip() for line in self.ignore):
            if pattern and not pattern.startswith("#"):
                bare = pattern.lstrip("!").rstrip("/")
                if any(
                    fnmatch(p, bare) or (bare.startswith("**/") and fnmatch(p.split("/")[-1], bare[3:])) for p in above
                ):
                    out = not pattern.startswith("!")
        return out

    def do_run(self, rest: str) -> None:
        self.chroot(["/bin/sh", "-c", rest], {**self.args, **self.now.env})

    def chroot(self, command: list[str], env: dict[str, str]) -> None:
        """Run in the current stage, with the machine's network, names of hosts and the bound folders.

        Raises CalledProcessError.
        """
        root = self.now.root
        mounts = [f"mount -t proc proc {root}/proc", f"mount --rbind /dev {root}/dev"]
        for folder in ["/etc/resolv.conf", "/etc/hosts", *self.binds]:
            target = root / folder.lstrip("/")
            if Path(folder).is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.touch()
            mounts.append(f"mount --bind {folder} {target}")
        home = "/root" if self.now.user == "0" else self.now.folder
        words = [f"{key}={value}" for key, value in {"HOME": home, **env}.items()]
        run = ["chroot", f"--userspec={self.now.user}:{self.now.user}", str(root), "/usr/bin/env", "-i", *words]
        inner = shlex.join(["/bin/sh", "-c", f'cd {shlex.quote(self.now.folder)} && exec "$@"', "sh", *command])
        script = " && ".join([*mounts, f"exec {shlex.join(run)} {inner}"])
        subprocess.run(["unshare", "--mount", "--fork", "sh", "-c", script], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dockerfile", type=Path)
    parser.add_argument("base", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--bind", action="append", default=[], help="folder or file to be seen inside, such as wheels")
    parser.add_argument("--arg", action="append", default=[], help="NAME=VALUE, as docker's --build-arg")
    parser.add_argument("--command", nargs="+", default=[], help="run at the end in place of CMD")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    given = dict(word.split("=", 1) for word in args.arg)
    prover = Prover(args.base.resolve(), args.work.resolve(), Path.cwd(), args.bind, given)
    for number, name, rest in instructions(args.dockerfile.read_text(encoding="utf-8")):
        print(f"{args.dockerfile}:{number}: {name} {rest}", flush=True)
        prover.run(name, rest)
    command = [*prover.now.entry, *(args.command or prover.now.command)]
    print(f"run: {shlex.join(command)}", flush=True)
    prover.chroot(command, prover.now.env)
    return 0


if __name__ == "__main__":
    sys.exit(main())
