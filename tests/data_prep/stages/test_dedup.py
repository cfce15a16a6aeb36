import json
from pathlib import Path

import pytest

from data_prep.execution.local import Local
from data_prep.jobs import Done, Job
from data_prep.recipe import Dedup
from data_prep.shards import Document, read_documents, write_shard
from data_prep.stages.dedup import DUPLICATES, build_dedup
from tests.data_prep.material import sentence

RULES = Dedup(num_perm=64, bands=16, rows=4)


def edited(seed: int, words: int) -> str:
    """A text whose first words are those of `sentence(seed, 200)`, and whose last `words` are not."""
    return " ".join([*sentence(seed, 200).split()[: 200 - words], *sentence(seed + 10_000, words).split()])


TEXTS = {
    "a": [sentence(1, 200), sentence(2, 200), "!!! ???", edited(2, 3)],
    "b": [
        sentence(2, 200).upper(),
        edited(1, 2),
        sentence(3, 200),
        "??? !!!",
        "!!!  ???",
        edited(1, 4),
        edited(3, 150),
    ],
}
KEPT = {"a": [0, 1, 2], "b": [2, 3, 6]}
GONE = {
    "a3": ("a1", "fuzzy_duplicate"),
    "b0": ("a1", "exact_duplicate"),
    "b1": ("a0", "fuzzy_duplicate"),
    "b4": ("a2", "exact_duplicate"),
    "b5": ("a0", "fuzzy_duplicate"),
}


def clean_stage(folder: Path, shard_size: int) -> Done:
    folder.mkdir()
    shards: dict[str, list[str]] = {}
    for source, texts in TEXTS.items():
        documents = [Document(f"{source}{i}", text, source) for i, text in enumerate(texts)]
        for start in range(0, len(documents), shard_size):
            shards.setdefault(source, []).append(f"{source}-{start:05d}.parquet")
            write_shard(folder / shards[source][-1], documents[start : start + shard_size])
    return Done("clean", "key", folder, {"shards": shards}, was_done=False)


@pytest.mark.parametrize("shard_size", [1, 2, 100])
def test_the_first_document_of_the_first_source_survives_in_any_sharding(tmp_path: Path, shard_size: int) -> None:
    clean = clean_stage(tmp_path / "clean", shard_size)
    built = build_dedup(Job(tmp_path, Local(1)), tmp_path / "work", clean, RULES, seed=1)
    for source, names in clean.summary["shards"].items():
        kept = [document for name in names for document in read_documents(tmp_path / "work" / name)]
        assert [document.id for document in kept] == [f"{source}{i}" for i in KEPT[source]]
        assert [document.text for document in kept] == [TEXTS[source][i] for i in KEPT[source]]
    lines = [json.loads(line) for line in (tmp_path / "work" / DUPLICATES).read_text().splitlines()]
    assert {line["id"]: (line["kept"], line["reason"]) for line in lines} == GONE
    assert built.summary["clusters"]["clusters"] == 3
    assert built.summary["clusters"]["largest_cluster"] == 3
    dropped = built.summary["sources"]["b"]["dropped"]
    assert {reason: count["documents"] for reason, count in dropped.items()} == {
        "exact_duplicate": 2,
        "fuzzy_duplicate": 2,
    }


@pytest.mark.parametrize(("exact", "fuzzy"), [(True, False), (False, True), (False, False)])
def test_each_kind_can_be_switched_off(tmp_path: Path, exact: bool, fuzzy: bool) -> None:
    clean = clean_stage(tmp_path / "clean", 3)
    rules = RULES.model_copy(update={"exact": exact, "fuzzy": fuzzy})
    build_dedup(Job(tmp_path, Local(1)), tmp_path / "work", clean, rules, seed=1)
    lines = [json.loads(line) for line in (tmp_path / "work" / DUPLICATES).read_text().splitlines()]
    reasons = {line["id"]: line["reason"] for line in lines}
    if fuzzy:  # equal texts are near-duplicates too, but for those without a word
        assert reasons == dict.fromkeys(["a3", "b0", "b1", "b5"], "fuzzy_duplicate")
    else:
        assert reasons == (dict.fromkeys(["b0", "b4"], "exact_duplicate") if exact else {})
