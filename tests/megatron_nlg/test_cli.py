from __future__ import annotations

import argparse
import re
import subprocess
import sys

import pytest

from megatron_nlg import __version__, cli
from megatron_nlg.config.errors import InputError, MegatronNlgError


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=120)


class Fake:
    """A subcommand's module whose run does what the test says."""

    outcome: object = 0

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("config")
        parser.add_argument("overrides", nargs="*")
        parser.add_argument("--ranks", type=int)

    @classmethod
    def run(cls, args: argparse.Namespace) -> int:
        if isinstance(cls.outcome, BaseException):
            raise cls.outcome
        assert isinstance(cls.outcome, int)
        return cls.outcome


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[Fake]:
    monkeypatch.setitem(sys.modules, "fake_command", Fake)
    monkeypatch.setitem(cli.COMMANDS, "fake", cli.Command("fake_command", "does what the test says"))
    monkeypatch.setattr(Fake, "outcome", 0)
    return Fake


@pytest.mark.parametrize(
    ("outcome", "code", "text"),
    [
        (0, 0, ""),
        (5, 5, ""),
        (InputError("run.yaml: no such file"), 2, "megatron-nlg fake: run.yaml: no such file\n"),
        (MegatronNlgError("disk full"), 1, "megatron-nlg fake: disk full\n"),
        (RuntimeError("odd"), 1, "megatron-nlg fake: RuntimeError: odd (--debug shows where)\n"),
        (KeyboardInterrupt(), 130, "megatron-nlg fake: interrupted\n"),
    ],
)
def test_exit_codes_and_one_readable_line(
    fake: type[Fake], capsys: pytest.CaptureFixture[str], outcome: object, code: int, text: str
) -> None:
    fake.outcome = outcome
    assert cli.main(["fake", "x"]) == code
    assert capsys.readouterr().err == text


@pytest.mark.parametrize("outcome", [InputError("bad"), RuntimeError("odd")])
def test_debug_shows_the_traceback(fake: type[Fake], outcome: Exception) -> None:
    fake.outcome = outcome
    with pytest.raises(type(outcome)):
        cli.main(["fake", "x", "--debug"])


@pytest.mark.parametrize(
    "argv",
    [
        ["c", "a=1", "b=2", "--ranks", "3"],
        ["c", "--ranks", "3", "a=1", "b=2"],
        ["c", "a=1", "--ranks", "3", "b=2"],
        ["--ranks", "3", "c", "a=1", "b=2"],
        ["--ranks=3", "c", "a=1", "--debug", "b=2"],
    ],
)
def test_overrides_may_stand_anywhere_after_the_config(fake: type[Fake], argv: list[str]) -> None:
    args = cli.parse("fake", ["fake", *argv])
    assert (args.config, args.overrides, args.ranks) == ("c", ["a=1", "b=2"], 3)


@pytest.mark.parametrize("word", ["--foo=4", "stray", "-x"])
def test_other_stray_words_are_refused(fake: type[Fake], capsys: pytest.CaptureFixture[str], word: str) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["fake", "c", "--ranks", "3", word])
    assert caught.value.code == 2
    assert f"unrecognized arguments: {word}" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [[], ["chekc"], ["--nope"]])
def test_no_or_an_unknown_command_is_refused(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 2


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"{__version__}\n"


def test_help_lists_every_command_and_loads_nothing_heavy() -> None:
    done = run_python(
        "import sys; from megatron_nlg.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print('LOADED', {'torch', 'numpy', 'pydantic', 'rich'} & set(sys.modules))"
    )
    assert done.returncode == 0
    assert done.stdout.rstrip().endswith("LOADED set()")
    for name in cli.COMMANDS:
        assert re.search(rf"^    {name}\s", done.stdout, re.MULTILINE)


HEAVY = {"torch", "deepspeed", "megatron", "numpy", "pyarrow", "matplotlib", "wandb", "rich"}


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_every_command_loads_nothing_heavy(name: str) -> None:
    """Half a second is the limit for an answer; what is loaded decides that, whatever the load of the machine."""
    done = run_python(
        "import sys; from megatron_nlg.cli import main\n"
        f"try: main([{name!r}, '--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        f"print('LOADED', {HEAVY!r} & set(sys.modules))"
    )
    assert done.returncode == 0, done.stderr
    assert f"usage: megatron-nlg {name}" in done.stdout
    assert done.stdout.rstrip().endswith("LOADED set()")
