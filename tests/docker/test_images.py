"""The images' files: linted, consistent with the project, and instructions read as Docker reads them."""

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

DOCKER = Path(__file__).parents[2] / "docker"
ROOT = DOCKER.parent


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


prove = load(DOCKER / "prove.py")


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cpu"])
def test_images_do_not_run_as_root_and_are_read_by_the_prover(name: str) -> None:
    found = prove.instructions((DOCKER / name).read_text())
    assert [rest for _, word, rest in found if word == "USER"] == ["1000"]
    assert "HEALTHCHECK" not in {word for _, word, _ in found}
    assert all(hasattr(prove.Prover, f"do_{word.lower()}") for _, word, _ in found)


def test_comments_and_continued_lines() -> None:
    text = "# one\nFROM a AS b\n\nRUN x && \\\n    # between\n    y\nENV A=1 \\\n    B=2\n"
    assert prove.instructions(text) == [(2, "FROM", "a AS b"), (4, "RUN", "x &&      y"), (7, "ENV", "A=1      B=2")]


@given(st.text(alphabet="FROMRUN \\\n#ab=$", max_size=60))
def test_any_text_is_read_or_refused_with_its_line(text: str) -> None:
    try:
        found = prove.instructions(text)
    except ValueError as error:
        assert re.match(r"line \d+: ", str(error))
    else:
        assert all(rest and word.isalpha() for _, word, rest in found)


def test_what_the_images_copy_is_there_and_what_the_project_needs_is_copied() -> None:
    prover = prove.Prover(ROOT, ROOT, ROOT, [], {})
    copied = {"configs", "data_prep", "docker", "launch", "megatron_nlg", "requirements"}
    for name in ("configs/runs/demo.yaml", "megatron_nlg/cli.py", "setup.py", "docker/install.sh", "README.md"):
        assert (ROOT / name).exists() and not prover._ignored(name), name
    for name in ("tests/world.py", ".git/config", "benchmarks/read.py", "megatron_nlg/__pycache__/x.pyc"):
        assert prover._ignored(name), name
    assert all((ROOT / name).is_dir() for name in copied)


def test_apptainer_and_docker_install_the_same() -> None:
    definition, dockerfile = (DOCKER / "megatron_nlg.def").read_text(), (DOCKER / "Dockerfile").read_text()
    tag = re.search(r"NGC_TAG=(\S+)", dockerfile)
    assert tag and f"NGC_TAG={tag[1]}" in definition
    assert "docker/install.sh ngc" in definition and "docker/install.sh ngc" in dockerfile
    copied = {line.split()[0] for line in definition.split("%files")[1].split("%post")[0].split("\n") if line.strip()}
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().split("\n") if line.startswith("!")}
    assert copied == allowed


def test_compose_builds_both_images() -> None:
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    assert {name: s["build"]["dockerfile"] for name, s in services.items()} == {
        "cpu": "docker/Dockerfile.cpu",
        "gpu": "docker/Dockerfile",
    }


def test_the_install_script_keeps_torch_from_pip_in_ngc_images(tmp_path: Path) -> None:
    """Its requirements are the project's without torch, and another torch is refused."""
    script = re.search(r"<<'PYTHON'.*?\n(.*?)\nPYTHON\n", (DOCKER / "install.sh").read_text(), re.DOTALL)
    assert script
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]

    def run(torch: str) -> subprocess.CompletedProcess[str]:
        code = f"import importlib.metadata as m\nm.version = lambda name: {torch!r}\n{script[1]}"
        command = [sys.executable, "-c", code, "requirements.txt", "constraints.txt"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    done = run("2.11.0a0+nv")
    assert done.returncode == 0, done.stderr
    asked = (tmp_path / "requirements.txt").read_text().splitlines()
    assert {line for line in wanted if not line.startswith("torch")} <= {*asked}
    assert "torch" not in {re.split(r"[^\w-]", line)[0] for line in asked}
    assert (tmp_path / "constraints.txt").read_text() == "torch==2.11.0a0+nv"
    old = run("2.4.0")
    assert old.returncode == 1 and "choose another NGC_TAG" in old.stderr
