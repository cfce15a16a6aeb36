import errno
import os
from pathlib import Path

import pytest

from data_prep.files import disk_error, file_sha256, make_folder, read_json, replacing, write_json
from megatron_nlg.config.errors import InputError, MegatronNlgError


def test_a_file_appears_only_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_a_full_disk_is_a_failure_that_names_the_file_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with (
        pytest.raises(MegatronNlgError, match=r"a\.json: No space left.*free some space") as caught,
        replacing(path) as t,
    ):
        t.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_forbidden_folder_is_bad_input(number: int) -> None:
    error = disk_error(OSError(number, os.strerror(number)), Path("x"))
    assert isinstance(error, InputError)
    assert "--out" in str(error)


def test_a_file_in_the_way_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    for path in (tmp_path / "a", tmp_path / "a" / "b"):
        with pytest.raises(InputError, match="a file is where a folder is needed"):
            make_folder(path)


def test_json_is_the_same_bytes_for_the_same_value(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"b": 1, "a": "é"})
    write_json(tmp_path / "b", {"a": "é", "b": 1})
    assert file_sha256(tmp_path / "a") == file_sha256(tmp_path / "b")
    assert read_json(tmp_path / "a", "") == {"a": "é", "b": 1}


@pytest.mark.parametrize(("text", "message"), [("{", "not valid JSON"), ("[]", "not list"), (None, "no such file")])
def test_damaged_json_names_file_and_mend(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "a.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=rf"a\.json.*{message}.*write it again"):
        read_json(path, "write it again")
