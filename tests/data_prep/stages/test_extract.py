import json
from pathlib import Path

import pytest

from data_prep.recipe import Extract, Language
from data_prep.shards import Document, read_documents, write_shard
from data_prep.stages import extract
from data_prep.stages.language import language_unit
from tests.data_prep.material import sentence

HTML = '{"charset": "utf-8", "content_type": "text/html"}'


def test_only_pages_are_extracted_and_one_bad_page_is_not_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake(html: str, rules: Extract) -> str:
        if "bad" in html:
            raise ValueError("no tree")
        return html.removeprefix("<p>")

    monkeypatch.setattr(extract, "extract_text", fake)
    texts = ["<p>one", "<p>", "<p>bad", "<p>two"]
    documents = [Document(str(i), text, "s", None, HTML) for i, text in enumerate(texts)]
    documents.append(Document("plain", "<p>stays", "s", None, '{"n": 1}'))
    write_shard(tmp_path / "a.parquet", documents)
    (tmp_path / "work").mkdir()
    result = extract.extract_unit(tmp_path / "work", "a", (tmp_path / "a.parquet", Extract()))
    kept = list(read_documents(tmp_path / "work" / "a.parquet"))
    assert [(d.id, d.text) for d in kept] == [("0", "one"), ("3", "two"), ("plain", "<p>stays")]
    assert json.loads(kept[0].attributes or "")["extractor"] == "justext"
    assert kept[2].attributes == '{"n": 1}'
    assert {r: n["documents"] for r, n in result["tally"]["dropped"].items()} == {"damaged_html": 1, "no_content": 1}


def test_languages_are_labelled_and_kept(tmp_path: Path) -> None:
    pytest.importorskip("pycld2", reason="of the extra web")
    english = "The committee will meet again next week to decide what should be done about the old bridge. "
    german = "Der Ausschuss wird nächste Woche wieder zusammentreten und über die alte Brücke entscheiden. "
    texts = [english, german, english * 2 + german * 2, sentence(1, 3)[:5]]
    write_shard(tmp_path / "a.parquet", [Document(str(i), text, "s") for i, text in enumerate(texts)])
    (tmp_path / "work").mkdir()
    rules = Language(threshold=0.7)
    result = language_unit(tmp_path / "work", "a", (tmp_path / "a.parquet", rules))
    (kept,) = read_documents(tmp_path / "work" / "a.parquet")
    attributes = json.loads(kept.attributes or "")
    assert (kept.text, attributes["language"]) == (english, "en")
    assert attributes["language_score"] > 0.9
    dropped = {r: n["documents"] for r, n in result["tally"]["dropped"].items()}
    assert dropped == {"other_language": 1, "uncertain_language": 2}
    assert sum(result["languages"].values()) == 4
    language_unit(tmp_path / "work", "a", (tmp_path / "a.parquet", Language(keep=None)))
    assert len(list(read_documents(tmp_path / "work" / "a.parquet"))) == 4
