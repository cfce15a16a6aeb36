"""The plan: which host, and which of its GPUs, every rank is to sit on. Written by `plan`, obeyed and checked by jobs.

SLURM realises it with `srun --distribution=arbitrary` and a hostfile of one line a rank: rank i runs on line i's host,
and a host's ranks are numbered locally in the order of their global numbers, which is what `local_rank` says.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from megatron_nlg.config.errors import InputError
from megatron_nlg.parallel.layout import Layout

COLUMNS = ("rank", "host", "local_rank", "pipe", "data", "context", "tensor")


@dataclass(frozen=True)
class Seat:
    """Where one rank sits, and its coordinates."""

    rank: int
    host: str
    local_rank: int
    pipe: int
    data: int
    context: int
    tensor: int


@dataclass(frozen=True)
class Plan:
    """A layout and the host of every rank, in the order of the ranks."""

    layout: Layout
    hosts: tuple[str, ...]

    @cached_property
    def nodes(self) -> tuple[str, ...]:
        """The hosts in use, in the order in which ranks first meet them; the first one is MASTER_ADDR."""
        return tuple(dict.fromkeys(self.hosts))

    @cached_property
    def seats(self) -> tuple[Seat, ...]:
        """Of every rank, in order."""
        taken: Counter[str] = Counter()
        seats = []
        for rank, host in enumerate(self.hosts):
            seats.append(Seat(rank, host, taken[host], **asdict(self.layout.coordinates(rank))))
            taken[host] += 1
        return tuple(seats)

    @property
    def hostfile(self) -> str:
        """SLURM_HOSTFILE's text: one line a rank."""
        return "".join(f"{host}\n" for host in self.hosts)

    def to_json(self) -> str:
        """The text of placement.json."""
        rows = ",\n".join(f"    {json.dumps(asdict(seat))}" for seat in self.seats)
        layout, nodes = json.dumps(asdict(self.layout)), json.dumps(self.nodes)
        return f'{{\n  "layout": {layout},\n  "nodes": {nodes},\n  "ranks": [\n{rows}\n  ]\n}}\n'

    @classmethod
    def from_json(cls, text: str, source: str = "placement.json") -> Plan:
        """Read `to_json`'s text. Raises InputError when it is not one, or contradicts itself."""
        try:
            tree = json.loads(text)
            layout = Layout(**tree["layout"])
            rows = [Seat(**{name: row[name] for name in COLUMNS}) for row in tree["ranks"]]
            plan = cls(layout, tuple(str(row.host) for row in rows))
            if len(rows) != layout.world_size:
                raise ValueError(f"{len(rows)} ranks, and {layout} has {layout.world_size}")
            for row, seat in zip(rows, plan.seats, strict=True):
                if row != seat:
                    raise ValueError(f"{_differing(row, seat)} does not follow from the hosts and the layout")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise InputError(f"{source}: not a placement: {what}; write it again with `megatron-nlg plan`") from None
        return plan

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Read placement.json. Raises InputError."""
        try:
            return cls.from_json(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: can't be read: {error}") from None

    def to_csv(self) -> str:
        """The rank table as CSV with a head line."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows([getattr(seat, name) for name in COLUMNS] for seat in self.seats)
        return text.getvalue()


def _differing(row: Seat, seat: Seat) -> str:
    name = next(name for name in COLUMNS if getattr(row, name) != getattr(seat, name))
    return f"rank {seat.rank}: {name} {getattr(row, name)!r}"


def differences(plan: Plan, found: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is not as planned, one line a rank; `found` are rows like those of placement.json, or parts of them."""
    lines = []
    for row in found:
        seat = asdict(plan.seats[row["rank"]]) if row["rank"] < len(plan.seats) else {}
        wrong = [f"{name} {row[name]} in place of {seat.get(name)}" for name in row if row[name] != seat.get(name)]
        if wrong:
            lines.append(f"rank {row['rank']}: {', '.join(wrong)}")
    return lines


def write_file(path: Path, text: str | bytes) -> None:
    """Write a file at once: a reader sees the old one or the new one. Raises InputError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(text.encode() if isinstance(text, str) else text)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except OSError as error:
        raise InputError(f"{path}: can't be written: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)
