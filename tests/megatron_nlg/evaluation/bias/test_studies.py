"""What is done with what is there, and why the rest is left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from megatron_nlg.evaluation.bias.sources import Sources, find_sources
from megatron_nlg.evaluation.bias.studies import NAMES, prepare
from megatron_nlg.evaluation.shared.units import identity_of
from tests.megatron_nlg.evaluation.bias.fixture import write_all


def test_without_files_the_own_list_is_used() -> None:
    studies = prepare(Sources(), NAMES, 1, "lexicon", seed=0)
    absent = "its file is not in --data"
    assert studies.left_out == {
        "winogender": absent,
        "crows_pairs": absent,
        "stereoset": absent,
        "words": "neither SentiWordNet nor VADER is in --data, and --tagger is lexicon",
    }
    assert list(studies.units()) == ["occupations"] and studies.prompts == []
    assert studies.files["occupations"] == "this project's own list"


def test_vader_alone_gives_sentiment_without_adjectives(tmp_path: Path) -> None:
    found = replace(find_sources([write_all(tmp_path)]), sentiwordnet=None)
    studies = prepare(found, ["words"], 2, "lexicon", seed=0)
    assert set(studies.left_out) == {"adjectives"} and len(studies.prompts) == 56
    rows = {prompt.key: {"text": " good"} for prompt in studies.prompts}
    figures = studies.figures({"words": rows})
    assert set(figures) == {"sentiment"} and set(figures["sentiment"]) == {"VADER"}


def test_what_rows_depend_on_changes_with_the_files(tmp_path: Path) -> None:
    folder = write_all(tmp_path)
    before = prepare(find_sources([folder]), NAMES, 1, "lexicon", seed=0)
    assert before.left_out == {} and list(before.units()) == ["occupations", "winogender", "crows_pairs", "stereoset"]
    path = folder / "sets" / "stereoset.json"
    path.write_text(path.read_text().replace("kind", "good"))
    after = prepare(find_sources([folder]), NAMES, 1, "lexicon", seed=0)
    changed = {name for name, work in before.units().items() if identity_of(work) != identity_of(after.units()[name])}
    assert changed == {"stereoset"}
