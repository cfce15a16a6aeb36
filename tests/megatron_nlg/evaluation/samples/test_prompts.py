"""The packaged prompts, files of one's own, and what is looked for in a continuation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from megatron_nlg.config.errors import InputError
from megatron_nlg.evaluation.samples.prompts import PACKAGED, Entry, entries, read_prompts
from megatron_nlg.generation.sampling import Sampling

OWN: dict[str, Any] = {
    "settings": {"greedy": {"temperature": 0}, "drawn": {"top_k": 5}},
    "kinds": [{"kind": "Dogs", "before": "A dog.", "max_tokens": 6, "stop": ["."], "prompts": [{"text": "The dog"}]}],
}


def write(folder: Path, tree: Any) -> Path:
    (folder / "own.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    return folder / "own.yaml"


def test_the_packaged_book_has_all_kinds_and_settings() -> None:
    book = read_prompts(PACKAGED)
    kinds = [kind.kind for kind in book.kinds]
    assert kinds == ["Riddles", "Clues", "Code", "Operators", "Free writing", "Facts", "Common sense"]
    rows = entries(book, 0)
    assert len(rows) == 4 * sum(len(kind.prompts) for kind in book.kinds) == len({(r.prompt, r.setting) for r in rows})
    settings = {row.setting: row.sampling for row in rows}
    assert settings["greedy"].temperature == 0 and settings["temperature 0.7"].temperature == 0.7
    assert settings["top-k 40"].top_k == 40 and settings["top-p 0.9"].top_p == 0.9
    for row in rows:  # a prompt that ends in a blank makes a tokenizer's next token an unusual one
        assert row.prompt == row.prompt.rstrip(" ")


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    first, second = entries(read_prompts(write(tmp_path, OWN)), 3)
    assert first.prompt == second.prompt == "A dog.\n\nThe dog"
    assert first.sampling == Sampling(0, 1.0, 6, 4, stop=(".",)) and second.sampling.top_k == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": {}}, "settings"),
        ({"settings": {"hot": {"temperature": -1.0}}}, "settings.hot: --temperature -1.0: must be 0 or more"),
        ({"settings": {"hot": {"temprature": 1.0}}}, "did you mean"),
        ({"kinds": []}, "kinds"),
        ({"kinds": [{"kind": "Dogs", "prompts": []}]}, "prompts"),
        ({"kinds": [{"kind": "Dogs", "prompts": [{"text": 5}]}]}, "text"),
        ({"kinds": OWN["kinds"] * 2}, "Dogs: given twice"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write(tmp_path, OWN | change)
    with pytest.raises(InputError) as error:
        read_prompts(path)
    assert str(path) in str(error.value) and message in str(error.value)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (" a River, of course", True),
        ("\n\nriver", True),
        ("rivers", False),
        ("a driver\nA river", False),
        ("a moving\nriver", False),
        ("(CO2)", True),
        ("", False),
    ],
)
def test_answers_are_words_of_the_first_line(text: str, found: bool) -> None:
    entry = Entry("Riddles", 1, "greedy", "?", Sampling(), ("river", "CO2"))
    assert entry.found(text) is found
    assert Entry("Code", 1, "greedy", "?", Sampling(), ()).found(text) is None
