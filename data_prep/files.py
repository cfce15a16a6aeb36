"""Files that appear whole or not at all, checksums, and disk errors a user can act on."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from megatron_nlg.config.errors import InputError, MegatronNlgError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


def disk_error(error: OSError, path: Path) -> MegatronNlgError:
    """What to tell the user when writing `path` failed: a full disk is a failure, a forbidden folder is bad input."""
    if error.errno in _FULL:
        return MegatronNlgError(
            f"{path}: {error.strerror}; nothing half-written is left, free some space and start the same command again"
        )
    if error.errno in _FORBIDDEN:
        return InputError(f"{path}: cannot be written: {error.strerror}; choose another folder with --out")
    return MegatronNlgError(f"{path}: cannot be written: {error.strerror or error}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on success it is synced and becomes `path`, on failure it is removed.

    Raises InputError when the folder may not be written to, MegatronNlgError for any other failing write.
    """
    temporary = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}.tmp")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file or a folder's entries to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a small UTF-8 file, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_text_if_changed(path: Path, text: str) -> None:
    """As write_text, but a file that holds just this is left alone."""
    if not path.exists() or path.read_bytes() != text.encode():
        write_text(path, text)


def write_json(path: Path, value: Any) -> None:
    """Write JSON with sorted keys, atomically: the same value is the same bytes."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """The text of write_json."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def read_json(path: Path, mend: str) -> dict[str, Any]:
    """Read a JSON object; raises InputError, ending in `mend`, when the file is missing or damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {mend}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; {mend}") from None
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); {mend}") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: a JSON object is expected, not {type(value).__name__}; {mend}")
    return value


def make_folder(path: Path) -> None:
    """Create a folder and its parents; raises InputError when that is not allowed or a file is in the way."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{path}: a file is where a folder is needed; choose another --out") from None
    except OSError as error:
        raise disk_error(error, path) from None


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fingerprint(value: Any) -> str:
    """Hex SHA-256 of a JSON-able value: what stage keys are made of."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
