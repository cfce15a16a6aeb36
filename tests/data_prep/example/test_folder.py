import json
from pathlib import Path

import pytest

from data_prep.example.folder import write_example
from megatron_nlg.cli import main
from megatron_nlg.config.errors import InputError
from tests.data_prep.material import tree_bytes

RECIPE = Path(__file__).resolve().parents[3] / "configs" / "runs" / "prep_example.yaml"


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    planted = write_example(tmp_path / "a", 1)
    assert write_example(tmp_path / "b", 1) == planted
    assert tree_bytes(tmp_path / "a") == tree_bytes(tmp_path / "b")
    write_example(tmp_path / "c", 2)
    assert tree_bytes(tmp_path / "a") != tree_bytes(tmp_path / "c")
    with pytest.raises(InputError, match="is not empty; choose a new folder"):
        write_example(tmp_path / "a", 1)


@pytest.mark.slow
def test_every_stage_of_the_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("warcio", "justext", "lxml_html_clean", "pycld2"):
        pytest.importorskip(name, reason="of the extra web")
    assert main(["prep", "example", str(tmp_path / "raw")]) == 0
    assert main(["prep", "run", str(RECIPE), f"root={tmp_path}/raw", "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "blend.yaml").exists()
    stages = json.loads((tmp_path / "out" / "stats.json").read_text())["stages"]
    names = {"read", "extract", "language", "clean", "filter", "quality", "dedup"}
    assert names <= set(stages)
    dropped = {name: {r: n["documents"] for r, n in stages[name]["total"]["dropped"].items()} for name in names}
    assert sum(dropped["read"].values()) == 7  # the six bad lines and the damaged record
    assert dropped["read"]["damaged_record"] == 1
    assert dropped["language"]["other_language"] > 10
    assert stages["clean"]["details"]["masked"]["email"] >= 12
    assert dropped["quality"]["low_quality"] > 150
    for source in ("books", "forum"):
        assert stages["quality"]["sources"][source]["dropped"] == {}
    quiz = json.loads((tmp_path / "out" / "stats.json").read_text())["decontaminate"]["tasks"]["quiz"]
    assert quiz["documents"] >= 1  # of twelve pages with a question; quality drops most of them before
    rejects = (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()
    assert len(rejects) == 7
