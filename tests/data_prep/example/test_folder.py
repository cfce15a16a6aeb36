import json
from pathlib import Path

import pytest

from data_prep.example.folder import write_example
from megatron_nlg.cli import main
from megatron_nlg.config.errors import InputError
from tests.data_prep.material import tree_bytes

RECIPE = Path(__file__).resolve().parents[3] / "configs" / "runs" / "prep_example.yaml"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    """The folder, and what was planted."""
    folder = tmp_path_factory.mktemp("example") / "raw"
    return folder, write_example(folder, 1234)


def test_the_same_seed_writes_the_same_bytes(example: tuple[Path, dict[str, int]], tmp_path: Path) -> None:
    raw, planted = example
    assert write_example(tmp_path / "again", 1234) == planted
    assert tree_bytes(tmp_path / "again") == tree_bytes(raw)
    write_example(tmp_path / "other", 2)
    assert tree_bytes(tmp_path / "other") != tree_bytes(raw)
    with pytest.raises(InputError, match="is not empty; choose a new folder"):
        write_example(raw, 1234)


@pytest.mark.slow
def test_every_stage_of_the_example(example: tuple[Path, dict[str, int]], tmp_path: Path) -> None:
    for name in ("warcio", "justext", "lxml_html_clean", "pycld2"):
        pytest.importorskip(name, reason="of the extra web")
    assert main(["prep", "run", str(RECIPE), f"root={example[0]}", "--out", str(tmp_path / "out")]) == 0
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
