import errno
import io
import os
from pathlib import Path
from typing import Any

import pytest

from data_prep.execution.local import Local
from data_prep.execution.units import Result
from data_prep.files import write_text
from data_prep.jobs import DONE, Built, Done, Job, exclusive, finished, progress_bar
from megatron_nlg.config.errors import InputError, MegatronNlgError


def worker(folder: Path, name: str, argument: Any) -> Result:
    with (folder / "log").open("a") as log:
        log.write(f"{name}\n")
    write_text(folder / f"{name}.txt", str(argument))
    return {"double": argument * 2}


def dying_worker(folder: Path, name: str, argument: Any) -> Result:
    os._exit(9)


def full_worker(folder: Path, name: str, argument: Any) -> Result:
    raise MegatronNlgError("disk full")


def stage(job: Job, settings: Any, units: dict[str, int], folder: Path) -> Done:
    def build(work: Path) -> Built:
        results = job.map_units("x", work, worker, units)
        return Built({"results": results}, [f"{name}.txt" for name in units])

    return job.run_stage("x", 1, {"settings": settings}, folder, build)


@pytest.mark.parametrize("processes", [1, 2])
def test_finished_units_are_not_run_again(tmp_path: Path, processes: int) -> None:
    with Job(tmp_path, Local(processes)) as job:
        first = job.map_units("x", tmp_path, worker, {"a": 1, "b": 2})
        assert first == {"a": {"double": 2}, "b": {"double": 4}}
        (tmp_path / "b.unit.json").unlink()
        again = job.map_units("x", tmp_path, worker, {"c": 3, "b": 2, "a": 1})
    assert list(again) == ["c", "b", "a"]
    assert sorted((tmp_path / "log").read_text().split()) == ["a", "b", "b", "c"]


def test_a_killed_worker_is_a_readable_failure(tmp_path: Path) -> None:
    with pytest.raises(MegatronNlgError, match="a worker process was killed"), Job(tmp_path, Local(2)) as job:
        job.map_units("x", tmp_path, dying_worker, {"a": 1, "b": 2})
    with pytest.raises(MegatronNlgError, match="disk full"), Job(tmp_path, Local(2)) as job:
        job.map_units("x", tmp_path, full_worker, {"a": 1, "b": 2})
    assert not list(tmp_path.glob("*.unit.json"))


def test_a_stage_is_kept_by_key_and_whole_files(tmp_path: Path) -> None:
    job, folder = Job(tmp_path, Local(1)), tmp_path / "x"
    first = stage(job, "one", {"a": 1}, folder)
    assert (first.was_done, first.again) == (False, "")
    assert sorted(p.name for p in folder.iterdir()) == ["a.txt", DONE]
    assert not (tmp_path / ".work").exists()
    assert stage(job, "one", {"a": 1}, folder).was_done
    changed = stage(job, "two", {"a": 2, "b": 3}, folder)
    assert (changed.was_done, changed.again) == (False, 'settings was "one", is "two"')
    assert (folder / "a.txt").read_text() == "2"
    (folder / "b.txt").write_text("33")  # longer than it was
    assert finished("x", folder) is None
    again = stage(job, "two", {"a": 2, "b": 3}, folder)
    assert (again.was_done, again.again) == (False, "a file of it was missing or damaged")
    assert (folder / "b.txt").read_text() == "3"
    (folder / "b.txt").unlink()
    assert not stage(job, "two", {"a": 2, "b": 3}, folder).was_done


def test_a_flipped_bit_is_found_when_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    stage(Job(tmp_path, Local(1)), "one", {"a": 10}, folder)
    (folder / "a.txt").write_text("11")
    assert stage(Job(tmp_path, Local(1)), "one", {"a": 10}, folder).was_done
    mended = stage(Job(tmp_path, Local(1), verify=True), "one", {"a": 10}, folder)
    assert (mended.was_done, mended.again) == (False, "a file of it was missing or damaged")
    assert (folder / "a.txt").read_text() == "10"


def test_what_changed_is_named(tmp_path: Path) -> None:
    job, folder = Job(tmp_path, Local(1)), tmp_path / "x"
    stage(job, {"a": 1, "b": [1, 2], "c": {"d": "x" * 50}, "gone": None}, {"a": 1}, folder)
    found = stage(job, {"a": 2, "b": [1, 3], "c": {"d": "y"}, "gone": 0}, {"a": 1}, folder)
    assert found.again == "settings.a was 1, is 2, settings.b.1 was 2, is 3, settings.c.d changed and 1 more"
    assert job.run_stage("x", 2, {}, folder, lambda _: Built({}, [])).again == "x itself has changed"


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="was not made by megatron-nlg prep; choose another --out"):
        stage(Job(tmp_path, Local(1)), "key", {"a": 1}, folder)
    assert (folder / "thesis.txt").read_text() == "precious"


def test_one_preparation_a_folder_and_no_litter(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / ".stats.json.123.tmp").write_text("half")
    with exclusive(out):
        assert not (out / ".stats.json.123.tmp").exists()
        with pytest.raises(InputError, match="another preparation is writing here"), exclusive(out):
            pass
    with exclusive(out):
        pass


def test_a_read_only_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with (
        pytest.raises(InputError, match="Read-only file system; choose another folder with --out"),
        exclusive(tmp_path),
    ):
        pass


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_for_terminals_only(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    stream = io.StringIO()
    stream.isatty = lambda: terminal  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar("some stage", 3) as advance:
        advance(2)
    with progress_bar("of unknown length", None) as advance:
        advance(1)
    assert ("some stage" in stream.getvalue()) == terminal
    assert ("of unknown length" in stream.getvalue()) == terminal
