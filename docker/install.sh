#!/bin/sh
# Installs the project from the current folder; used by both Dockerfiles and the Apptainer definition.
#   install.sh cpu VENV    a virtual environment of pinned versions; TORCH_INDEX: an index with CPU builds of torch
#   install.sh ngc         into an NVIDIA NGC PyTorch image's own Python, whose torch, apex and Transformer Engine stay
# The project's sources stay where they are (an editable install): configs/ lies beside the code.
set -eu

# DeepSpeed comes as source and would compile kernels that this project does not use.
export DS_BUILD_OPS=0 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

case $1 in
cpu)
    python3 -m venv "$2"
    # torch first and alone, so that a CPU build is in place before anything else asks for torch.
    "$2/bin/python" -m pip install -c requirements/constraints-cpu.txt \
        ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} torch setuptools
    "$2/bin/python" -m pip install -c requirements/constraints-cpu.txt -e '.[web]'
    ;;
ngc)
    # NGC's torch calls itself 2.x.0a0, which pip takes for older than 2.x.0: it is checked here and kept from pip. The
    # image pins what it was built with in a constraints file; what the project asks for by itself is let out of it.
    python3 - /tmp/requirements.txt /tmp/constraints.txt <<'PYTHON'
import re, sys, tomllib
from importlib.metadata import version
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
wanted = [*project["dependencies"], *project["optional-dependencies"]["web"]]
(torch,) = [line for line in wanted if re.match(r"torch\b", line)]
low, high = (tuple(map(int, bound.split("."))) for bound in re.findall(r"[<>]=?([\d.]+)", torch))
found = tuple(int(part) for part in re.findall(r"\d+", version("torch"))[:2])
if not low <= found < high:
    sys.exit(f"this image has torch {version('torch')}, the project needs {torch}: choose another NGC_TAG")
name = lambda line: re.split(r"[^\w.-]", line, maxsplit=1)[0].lower().replace("_", "-")
ours = {name(line) for line in wanted}
pins = Path("/etc/pip/constraint.txt")
kept = [line for line in pins.read_text().splitlines() if name(line) not in ours] if pins.exists() else []
Path(sys.argv[1]).write_text("\n".join(line for line in wanted if line != torch))
Path(sys.argv[2]).write_text("\n".join([*kept, f"torch=={version('torch')}"]))
PYTHON
    PIP_CONSTRAINT='' python3 -m pip install -c /tmp/constraints.txt -r /tmp/requirements.txt
    PIP_CONSTRAINT='' python3 -m pip install --no-deps --no-build-isolation -e .
    rm /tmp/requirements.txt /tmp/constraints.txt
    ;;
*)
    echo "install.sh cpu VENV | ngc" >&2
    exit 2
    ;;
esac
