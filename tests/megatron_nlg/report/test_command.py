"""`megatron-nlg report` as a user types it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from megatron_nlg.cli import main
from tests.megatron_nlg.report.example import write_run


def test_writes_the_page_into_the_run_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run")
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    assert (run / "report.html").read_text().startswith("<!doctype html>")
    assert not list(run.glob(".*"))


def test_writes_the_same_page_where_it_is_told(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    main(["report", str(run)])
    assert main(["report", str(run), "--out", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").read_bytes() == (run / "report.html").read_bytes()


def test_bad_input_is_one_line_and_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "no config.yaml" in capsys.readouterr().err
    run = write_run(tmp_path / "run")
    assert main(["report", str(run), "--out", str(tmp_path / "nowhere" / "page.html")]) == 2
    assert "choose another file with --out" in capsys.readouterr().err


def test_help_imports_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys, contextlib\nfrom megatron_nlg.cli import main\n"
        "with contextlib.suppress(SystemExit):\n    main(['report', '--help'])\n"
        "print({'torch', 'matplotlib', 'numpy'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--out FILE" in done.stdout
    assert done.stdout.strip().endswith("set()")


def test_the_page_is_drawn_without_torch(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    code = (
        "import sys\nfrom megatron_nlg.cli import main\n"
        f"assert main(['report', {str(run)!r}]) == 0\nassert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
