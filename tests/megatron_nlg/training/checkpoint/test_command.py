from __future__ import annotations

from pathlib import Path

import pytest

from megatron_nlg import cli
from megatron_nlg.config.dump import to_yaml
from megatron_nlg.training.checkpoint.format import name_of, problems_of, steps_in
from tests.megatron_nlg.training.checkpoint.test_format import unpacked
from tests.megatron_nlg.training.checkpoint.test_store import save
from tests.tiny import tiny


def command(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    code = cli.main(["checkpoint", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out + err


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with five small checkpoints."""
    for step in (10, 20, 30, 40, 50):
        save(tmp_path / "checkpoints", step)
    (tmp_path / "config.yaml").write_text(to_yaml(tiny("checkpoint.keep_last=2", "checkpoint.keep_every=20")))
    return tmp_path


@pytest.mark.parametrize("version", [1, 2])
def test_show_one(tmp_path: Path, capsys: pytest.CaptureFixture[str], version: int) -> None:
    unpacked(version, tmp_path)
    code, text = command(capsys, "show", tmp_path)
    assert code == 0
    assert "step_00000003" in text and "weights, moments" in text and "96" in text  # tokens
    assert "16 tensors, 1,208 parameters" in text
    assert "embedding.word_embeddings.weight" in text and "32 × 8" in text
    assert ("tensor 2 × data 2, ZeRO-1, fp32" in text) == (version == 2)


def test_show_many_says_why_they_are_kept(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "checkpoints" / name_of(40) / "__0_0.distcp").write_bytes(b"")
    (run / "checkpoints" / name_of(10) / "manifest.json").unlink()
    code, text = command(capsys, "show", run)
    lines = {line.split()[0]: line for line in text.splitlines() if "step_" in line}
    assert code == 0
    assert "every 20" in lines[name_of(20)] and "newest 2" in lines[name_of(50)]
    assert "damaged: __0_0.distcp" in lines[name_of(40)] and "damaged: manifest.json" in lines[name_of(10)]


def test_verify(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(capsys, "verify", run)[0] == 0
    victim = run / "checkpoints" / name_of(30) / "__0_1.distcp"
    data = bytearray(victim.read_bytes())
    data[1000] ^= 1
    victim.write_bytes(data)
    code, text = command(capsys, "verify", run)
    assert code == 1
    assert text.count("whole") == 4 and f"{victim.parent}: __0_1.distcp is not what was written" in text


def test_prune(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run / "checkpoints"
    code, text = command(capsys, "prune", run, "--dry-run")
    assert code == 0 and text.count("would be deleted") == 2 and len(steps_in(folder)) == 5
    command(capsys, "prune", run)  # by the run's own settings
    assert sorted(steps_in(folder)) == [20, 40, 50]
    command(capsys, "prune", folder, "--keep-last=1", "--keep-every=0")
    assert steps_in(folder) == [50]
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_prune_leaves_a_whole_one(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "checkpoints" / name_of(50) / "__0_0.distcp").unlink()
    _, text = command(capsys, "prune", run, "--keep-last=1", "--keep-every=0")
    assert "kept (newest that is whole)" in text
    assert sorted(steps_in(run / "checkpoints")) == [40, 50]
    assert problems_of(run / "checkpoints" / name_of(40)) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["show", "{run}/none"], "holds no checkpoint"),
        (["prune", "{run}/checkpoints/step_00000010"], "is one checkpoint; name the folder"),
        (["prune", "{run}", "--keep-last=0"], "keep 1 or more"),
    ],
)
def test_bad_input(run: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    code, text = command(capsys, *[argument.format(run=run) for argument in arguments])
    assert code == 2 and says in text and len(steps_in(run / "checkpoints")) == 5
