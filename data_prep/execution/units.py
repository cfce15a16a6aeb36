"""Units of work and what they leave behind: a result file each, so that any executor's work can be gone on with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from data_prep.files import read_json, write_json
from megatron_nlg.config.errors import InputError, MegatronNlgError

Result = dict[str, Any]
Worker = Callable[[Path, str, Any], Result]
"""`worker(folder, name, argument)`: importable, writes only files that begin with its name, returns what JSON holds."""
Advance = Callable[[int], None]

_MEND = "remove .work and start again"
_KINDS: dict[str, type[MegatronNlgError]] = {"input": InputError, "failure": MegatronNlgError}


@dataclass(frozen=True)
class Units:
    """Units of one kind: `worker(folder, name, argument)` for each argument."""

    title: str
    worker: Worker
    folder: Path
    arguments: Mapping[str, Any]
    """name -> argument, in the order of the results."""

    def missing(self) -> Units:
        """Those without a result, by one look at the folder: there may be many, on a disk that is far away."""
        done = self._left_by("unit")
        return replace(self, arguments={n: a for n, a in self.arguments.items() if n not in done})

    def only(self, name: str) -> Units:
        """One of them: what another process needs."""
        return replace(self, arguments={name: self.arguments[name]})

    def run(self, name: str) -> None:
        """Run one and leave its result."""
        write_json(self._result(name), {"result": self.worker(self.folder, name, self.arguments[name])})

    def run_and_record(self, name: str) -> bool:
        """As `run`, far from the process that waits: an error with a mend is left as a file. Whether it went well."""
        try:
            self.run(name)
        except MegatronNlgError as error:
            kind = "input" if isinstance(error, InputError) else "failure"
            write_json(self._error(name), {"kind": kind, "message": str(error)})
            return False
        return True

    def forget_errors(self) -> None:
        """Remove what an earlier attempt recorded."""
        for name in self._left_by("error"):
            self._error(name).unlink(missing_ok=True)

    def raise_recorded(self) -> None:
        """Raise the first error that `run_and_record` has left."""
        for name in sorted(self._left_by("error")):
            found = read_json(self._error(name), _MEND)
            raise _KINDS[found["kind"]](found["message"])

    def results(self) -> dict[str, Result]:
        """Results of all, in the order of the arguments."""
        return {name: read_json(self._result(name), _MEND)["result"] for name in self.arguments}

    def _left_by(self, kind: str) -> set[str]:
        """Names that have a file `NAME.kind.json`."""
        ending = f".{kind}.json"
        found = {path.name.removesuffix(ending) for path in self.folder.glob(f"*{ending}")}
        return found & self.arguments.keys()

    def _result(self, name: str) -> Path:
        return self.folder / f"{name}.unit.json"

    def _error(self, name: str) -> Path:
        return self.folder / f"{name}.error.json"


class Executor(Protocol):
    """Runs units wherever it does."""

    def run(self, units: Units, advance: Advance) -> None:
        """Run all, in any order; `advance(1)` for each that is done. Raises what the first failing one did."""
        ...

    def close(self) -> None:
        """Let go of processes."""
        ...
