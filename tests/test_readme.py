"""The README holds: every command in it is run, in its order, from a copy of the repository's root."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.job import command

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MADE_BY_OTHER_TESTS = {
    "make demo": '$(BIN)/megatron-nlg demo $(if $(CORPUS),--corpus "$(CORPUS)")',  # tests/megatron_nlg/test_demo.py
    "make test": "$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder",  # this run
}


def commands() -> list[str]:
    """Lines of all bash blocks."""
    blocks = re.findall(r"^ *```bash\n(.*?)^ *```", README, flags=re.DOTALL | re.MULTILINE)
    return [line.strip() for block in blocks for line in block.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands need of the repository, and texts of one's own: the standard library's."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "configs", folder / "configs")
    first = folder / "configs" / "runs" / "first.yaml"
    whole = first.read_text(encoding="utf-8")
    short = whole.replace("train_tokens: 102_400 ", "train_tokens: 30_720 ")  # 30 steps for its 100
    assert short != whole
    first.write_text(short, encoding="utf-8")
    texts = folder / "my_texts"
    texts.mkdir()
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:120]:
        shutil.copy(path, texts / f"{path.stem}.txt")
    return folder


@pytest.mark.slow
def test_every_command_runs(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first by the installed script, the others without the seconds that a new Python imports for."""
    monkeypatch.chdir(checkout)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    run = [line for line in commands() if line not in MADE_BY_OTHER_TESTS]
    assert {line.split()[1] for line in run} == {
        "prep",
        "check",
        "train",
        "checkpoint",
        "verify",
        "generate",
        "samples",
        "bias",
        "report",
        "launch",
        "plan",
        "preflight",
    }
    first, *others = map(shlex.split, run)
    done = subprocess.run(first, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, f"{first}\n{done.stdout}\n{done.stderr}"
    for words in others:
        assert words[0] == first[0] == "megatron-nlg"
        with command(*words[1:]) as job:
            code, out, err = job.wait(240)
        assert code == 0, f"{words}\n{out}\n{err}"
    folder = checkout / "runs" / "first"
    assert (folder / "report.html").exists()
    section = README.split("## What a run leaves behind")[1].split("\n## ")[0]
    for name in re.findall(r"^\| `([a-z_.]+?)(?:/[^`]*)?` \|", section, flags=re.MULTILINE):
        assert (folder / name).exists(), f"the README lists {name}"


def test_make_targets_are_what_other_tests_run() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line, recipe in MADE_BY_OTHER_TESTS.items():
        assert line in commands()
        target = line.split()[1]
        assert re.search(rf"^{target}: venv\n\t{re.escape(recipe)}$", makefile, flags=re.MULTILINE)


def test_links_and_paths_exist() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
    for path in re.findall(r"`((?:configs|training|megatron_nlg)/[\w./]+)`", README):
        assert (ROOT / path).exists() or (ROOT / "megatron_nlg" / path).exists(), path
