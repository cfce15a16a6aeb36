"""The command on local ranks."""

import json
from argparse import ArgumentParser
from pathlib import Path

import pytest

from megatron_nlg.config.errors import InputError
from megatron_nlg.training.preflight import command
from tests.job import command as job


@pytest.mark.slow
def test_this_machine_passes_and_a_node_that_should_be_there_does_not(tmp_path: Path) -> None:
    run, nodes = tmp_path / "run", tmp_path / "nodes"
    nodes.write_text("nowhere\n")
    options = ["--run", str(run), "--nproc", "2", "--slow", "0.01", "--patience", "30", "--nodes-file", str(nodes)]
    with job("preflight", *options) as running:
        code, _, err = running.wait()
    assert code == 4, err
    found = json.loads((run / "preflight.json").read_text())
    (name,) = found["good"]
    assert len(found["gemm_tflops"][name]) == 2
    assert "bad node nowhere: 2 of 2 ranks did not answer" in err
    assert "preflight: 1 good nodes, 1 bad" in err


def given(*arguments: str) -> int:
    parser = ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(arguments))


def test_bad_input(tmp_path: Path) -> None:
    (tmp_path / "leaves").write_text('{"leaf1": [1]}')
    (tmp_path / "text").write_text('{"leaf1": "node1"}')
    for arguments, message in (
        (["--spares", "-1"], "--spares -1: a number from 0"),
        (["--slow", "0"], "--slow 0: a number above 0 and at most 1"),
        (["--patience", "-2"], "--patience -2: a number above 0 is"),
        (["--out", str(tmp_path / "no" / "file")], "--out .*file: there is no folder"),
        (["--leaves", str(tmp_path / "text")], "--leaves .*: an object of lists of node names"),
        (["--nodes-file", str(tmp_path / "none")], "--nodes-file .*none: can't be read"),
        (["--leaves", str(tmp_path / "leaves")], "--leaves .*: an object of lists of node names"),
    ):
        with pytest.raises(InputError, match=message):
            given("--run", str(tmp_path / "run"), *arguments)
