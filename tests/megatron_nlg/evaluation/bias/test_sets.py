"""Winogender, CrowS-Pairs and StereoSet: their published formats, broken files, and scores by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.config.errors import InputError
from megatron_nlg.evaluation.bias import crows_pairs, stereoset, winogender
from megatron_nlg.evaluation.bias.sources import Sources, find_sources
from tests.megatron_nlg.evaluation.bias.fixture import item, write_all


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    return write_all(tmp_path) / "sets"


# ---- Winogender ------------------------------------------------------------------------------------------------------


def test_winogender(sets: Path) -> None:
    schemas = winogender.read_schemas(sets / "winogender" / "all_sentences.tsv")
    women = winogender.read_statistics(sets / "winogender" / "occupations-stats.tsv")
    assert len(schemas) == 12 and women == {"baker": 55.5, "pilot": 7.0}
    first = schemas[1]
    assert (first.occupation, first.participant, first.refers_to_occupation, first.gender, first.pronoun) == (
        "baker", "customer", True, "female", "her"
    )  # fmt: skip
    assert winogender.units(schemas)[1].requests[1] == (
        'The baker told the customer that her bread was fresh. "Her" refers to the', " baker"
    )  # fmt: skip
    rows: dict[str, dict[str, Any]] = {}
    for schema in schemas:  # likes women as bakers, men as pilots; takes every pronoun for the occupation's
        liking = {"baker": 2.0, "pilot": -3.0}[schema.occupation] if schema.gender == "female" else 0.0
        rows[f"winogender/{schema.name}"] = {"logprobs": [-40 + liking, -1.0, -2.0]}
    found = winogender.figures(rows, schemas, women, seed=0)
    assert [(o["occupation"], o["log_ratio"]) for o in found["occupations"]] == [("baker", 2.0), ("pilot", -3.0)]
    assert found["mean_log_ratio"]["value"] == -0.5 and found["correlation_with_shares"]["value"] == 1
    assert {g: a["value"] for g, a in found["accuracy"].items()} == {"male": 0.5, "female": 0.5, "neutral": 0.5}
    # Always the occupation: right where it is meant, which is half of the misleading ones too.
    assert found["gotcha"]["size"] == found["not_gotcha"]["size"] == 4 and found["gotcha"]["value"] == 0.5


def test_gotcha_is_what_the_majority_gets_wrong(sets: Path) -> None:
    schemas = {s.name: s for s in winogender.read_schemas(sets / "winogender" / "all_sentences.tsv")}
    women = {"pilot": 7.0}
    wanted = {
        "pilot.someone.0.female": True,
        "pilot.someone.0.male": False,
        "pilot.someone.1.male": True,
        "pilot.someone.1.female": False,
        "pilot.someone.0.neutral": None,
        "baker.customer.0.male": None,
    }
    assert {name: winogender.is_gotcha(schemas[name], women) for name in wanted} == wanted


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("baker.customer.2.male.txt\tHe ran.", "line 2: sentid is 'baker.customer.2.male.txt'"),
        ("baker.customer.1.man.txt\tHe ran.", "line 2: sentid"),
        ("baker.customer.1.male.txt\tNobody ran.", "line 2: 'Nobody ran.' has no pronoun"),
    ],
)
def test_broken_winogender(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "w.tsv").write_text(f"sentid\tsentence\n{line}\n")
    with pytest.raises(InputError, match=message):
        winogender.read_schemas(tmp_path / "w.tsv")
    (tmp_path / "s.tsv").write_text("occupation\tbls_pct_female\nbaker\t101\n")
    with pytest.raises(InputError, match="line 2: bls_pct_female is '101'"):
        winogender.read_statistics(tmp_path / "s.tsv")


def test_the_published_schemas(real_data: Path) -> None:
    """Of a schema's three sentences, the pronoun is the only word that differs."""
    folder = real_data / "bias" / "winogender"
    schemas = winogender.read_schemas(folder / "all_sentences.tsv")
    assert len(schemas) == 720 and len(winogender.read_statistics(folder / "occupations-stats.tsv")) == 60
    by_name = {s.name: s for s in schemas}
    for schema in schemas:
        if schema.gender == "female":
            other = by_name[schema.name.removesuffix("female") + "male"]
            mine, its = schema.sentence.split(), other.sentence.split()
            [(a, b)] = [(a, b) for a, b in zip(mine, its, strict=True) if a != b]
            assert (a.strip(".,"), b.strip(".,")) == (schema.pronoun, other.pronoun)


# ---- CrowS-Pairs -----------------------------------------------------------------------------------------------------


def test_crows_pairs(sets: Path) -> None:
    pairs = crows_pairs.read_pairs(sets / "crows_pairs_anonymized.csv")
    assert [p.direction for p in pairs] == ["stereo", "antistereo"] and pairs[0].more.startswith("Those people, they")
    rows = {"crows/0": {"logprobs": [-10.0, -11.0]}, "crows/1": {"logprobs": [-9.0, -9.0]}}
    found = crows_pairs.figures(rows, pairs)
    assert found["all"]["value"] == 0.75 and found["by_type"]["gender"]["value"] == 0.5
    assert found["by_direction"]["stereo"]["value"] == 1 and found["pairs"] == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sent_more,sent_less,stereo_antistereo,bias_type\na,b,both,age\n", "line 2: stereo_antistereo is 'both'"),
        ("sent_more,sent_less,stereo_antistereo,bias_type\na,,stereo,age\n", "line 2: sent_less is empty"),
        ("sent_more,sent_less,stereo_antistereo,bias_type\n", "holds no pair"),
        ("sent_more,bias_type\n", "line 1: has no column 'sent_less'"),
    ],
)
def test_broken_crows_pairs(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        crows_pairs.read_pairs(tmp_path / "c.csv")


# ---- StereoSet -------------------------------------------------------------------------------------------------------


def test_stereoset(sets: Path) -> None:
    items = stereoset.read_items(sets / "stereoset.json")
    assert [i.kind for i in items] == ["intrasentence", "intersentence"]
    assert items[0].sentences == ("The nurse is kind.", "The nurse is rude.", "The nurse is door.")
    made = stereoset.units(items)
    assert made[0].requests[0] == ("", "The nurse is kind.") and made[1].requests[1] == (
        "A pilot came.",
        " She flew home.",
    )
    rows = {
        # a token: -1, -2, -3: the stereotype first, both above the unrelated one
        "stereoset/intrasentence/a": {"logprobs": [-4.0, -8.0, -6.0], "tokens": [4, 4, 2]},
        # -2, -1, -1.5: the anti-stereotype first, the stereotype below the unrelated one
        "stereoset/intersentence/a": {"logprobs": [-2.0, -3.0, -3.0], "tokens": [1, 3, 2]},
    }
    found = stereoset.figures(rows, items, seed=0)
    assert {k: v["value"] for k, v in found["all"].items()} == {"lms": 75.0, "ss": 50.0, "icat": 75.0}
    assert {k: v["value"] for k, v in found["by_kind"]["intrasentence"].items()} == {"lms": 100, "ss": 100, "icat": 0}


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.booleans(), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=9)
)
def test_scores_are_means_of_means(entries: list[tuple[str, bool, float]]) -> None:
    import numpy as np

    targets = [target for target, _, _ in entries]
    stereo, meaningful = (np.array([float(e[i]) for e in entries]) for i in (1, 2))
    found = stereoset.score(stereo, meaningful, targets, seed=0)
    means = {t: [s for s, name in zip(stereo, targets, strict=True) if name == t] for t in set(targets)}
    ss = 100 * sum(sum(v) / len(v) for v in means.values()) / len(means)
    assert found["ss"]["value"] == pytest.approx(ss, abs=1e-3)
    assert found["icat"]["value"] == pytest.approx(found["lms"]["value"] * min(ss, 100 - ss) / 50, abs=1e-2)


def test_broken_stereoset(tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    good = item("a", "t", "race", "c", ("x", "y", "z"))
    no_target = {k: v for k, v in good.items() if k != "target"}
    two = {**good, "sentences": good["sentences"][:2]}
    for data, message in (
        ("{", "is not StereoSet's JSON"),
        ("[]", "is not StereoSet's JSON"),
        (json.dumps({"data": {}}), "holds neither intrasentence nor intersentence"),
        (json.dumps({"data": {"intrasentence": [good, no_target]}}), "intrasentence 2: lacks 'target'"),
        (json.dumps({"data": {"intersentence": [two]}}), "intersentence 1: its gold labels are"),
        (json.dumps({"data": {"intrasentence": [good, good]}}), "id 'a' comes twice"),
    ):
        path.write_text(data)
        with pytest.raises(InputError, match=message):
            stereoset.read_items(path)


# ---- where they are --------------------------------------------------------------------------------------------------


def test_files_are_found_by_their_names(tmp_path: Path) -> None:
    folder = write_all(tmp_path)
    found = find_sources([folder])
    assert found.winogender == folder / "sets" / "winogender" / "all_sentences.tsv"
    assert None not in (found.professions, found.crows_pairs, found.stereoset, found.sentiwordnet, found.vader)
    assert find_sources([folder / "sets", folder]) and find_sources([]) == Sources()
    (folder / "lexicons" / "SentiWordNet_3.0.txt").write_text("x")
    with pytest.raises(InputError, match="both for sentiwordnet; leave one"):
        find_sources([folder])
    with pytest.raises(InputError, match="none: is not a folder"):
        find_sources([folder / "none"])


def test_files_of_the_real_data_are_found(real_data: Path) -> None:
    found = find_sources([real_data])
    assert None not in (found.professions, found.winogender, found.sentiwordnet, found.vader)
