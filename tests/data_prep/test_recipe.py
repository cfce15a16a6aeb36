from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.recipe import Recipe, load_recipe
from megatron_nlg.config.errors import ConfigError, InputError

CORPORA = Path(__file__).resolve().parents[2] / "configs" / "corpora"

MINIMAL = """
out: here
sources:
  - {name: books, paths: [b]}
  - {name: web, paths: [w], weight: 3}
tokenizer: {kind: char}
"""


def load(tmp_path: Path, text: str = MINIMAL, *overrides: str) -> Recipe:
    (tmp_path / "r.yaml").write_text(text)
    return load_recipe(tmp_path / "r.yaml", overrides)


def test_defaults(tmp_path: Path) -> None:
    recipe = load(tmp_path)
    assert (recipe.dedup.threshold, recipe.dedup.num_perm, recipe.dedup.bands, recipe.dedup.rows) == (
        0.8,
        128,
        None,
        None,
    )
    assert (recipe.clean.min_characters, recipe.clean.boilerplate_min_characters) == (512, 256)
    assert [source.weight for source in recipe.sources] == [1.0, 3.0]


def test_sources_are_overridden_by_position_or_name(tmp_path: Path) -> None:
    overrides = ("sources.0.weight=2", "sources.web.paths=[x, y]", "sources.web.split=parts", "root=/data", "seed=7")
    recipe = load(tmp_path, MINIMAL, *overrides)
    books, web = recipe.sources
    assert (books.weight, books.paths) == (2, ("b",))
    assert (web.weight, web.paths, web.split) == (3, ("x", "y"), "parts")
    assert (recipe.root, recipe.seed) == ("/data", 7)
    assert str(recipe.input_path("x")) == "/data/x"
    assert str(recipe.input_path("/elsewhere/x")) == "/elsewhere/x"
    assert load(tmp_path, MINIMAL, "sources.0.paths=one.txt").sources[0].paths == ("one.txt",)
    assert load(tmp_path, MINIMAL, "sources.1={name: other, paths: [o]}").sources[1].name == "other"
    whole = load(tmp_path, MINIMAL, "sources=[{name: only, paths: [o]}]", "sources.only.weight=5")
    assert [(s.name, s.weight) for s in whole.sources] == [("only", 5)]


def test_override_of_an_unknown_source_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no source 'wbe'; known: 0 to 1, books, web"):
        load(tmp_path, MINIMAL, "sources.wbe.weight=2")
    with pytest.raises(InputError, match="no source '2'"):
        load(tmp_path, MINIMAL, "sources.2.weight=2")


def test_all_problems_at_once_with_the_nearest_key(tmp_path: Path) -> None:
    text = """
    sources:
      - {name: "a b", paths: [x], weigth: 2}
      - {name: c, paths: [x], weight: -1}
    tokeniser: {kind: char}
    clean: {min_character: 3}
    """
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    keys = {problem.key for problem in caught.value.problems}
    assert keys == {
        "out", "sources.0.name", "sources.0.weigth", "sources.1.weight", "tokenizer", "tokeniser",
        "clean.min_character",
    }  # fmt: skip
    assert "did you mean tokenizer?" in str(caught.value)
    assert "did you mean clean.min_characters?" in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "key", "message"),
    [
        (["sources.1.name=books"], "sources.1.name", "given twice"),
        (["sources.0.paths=[]"], "sources.0.paths", "is required"),
        (["sources.0.format=python_modules"], "sources.0.paths", "reads the Python installation"),
        (["dedup.bands=20"], "dedup.bands", "null for both"),
        (["dedup.bands=20", "dedup.rows=13"], "dedup.num_perm", "fewer than bands 20 × rows 13"),
        (["tokenizer.kind=null"], "tokenizer.kind", "or load"),
        (["tokenizer.load=x"], "tokenizer.kind", "or load"),
        (["tokenizer.kind=bpe"], "tokenizer.vocab_size", "is required to train bpe"),
        (["tokenizer.vocab_size=300"], "tokenizer.vocab_size", "can't be chosen here"),
        (["tokenizer.kind=gpt2"], "tokenizer.vocab", "required by kind gpt2"),
        (["tokenizer.kind=huggingface"], "tokenizer.file", "required by kind huggingface"),
        (["tokenizer.file=x"], "tokenizer.file", "belongs to kinds huggingface and sentencepiece"),
        (["tokenizer.eod=</s>"], "tokenizer.eod", "for a given tokenizer.file only"),
        (["tokenizer={kind: sentencepiece, file: x, vocab_size: 300}"], "tokenizer.vocab_size", "can't be chosen here"),
        (
            ["decontaminate.tasks=[{name: a, paths: x}, {name: a, paths: y}]"],
            "decontaminate.tasks.1.name",
            "given twice",
        ),
        (["decontaminate.tasks=[{name: a, paths: []}]"], "decontaminate.tasks.0.paths", "is empty"),
        (["blend.weights=epochs", "blend.epochs={web: 1}"], "blend.epochs", "says nothing of books; give epochs"),
        (["blend.epochs={wbe: 1}"], "blend.epochs.wbe", "known: books, web"),
        (["blend.epochs={web: 0}"], "blend.epochs.web", "greater than 0"),
        (["blend.temperature=2"], "blend.temperature", "belongs to weights: tokens"),
        (["tokenizer.merges=x"], "tokenizer.merges", "belongs to kind gpt2"),
        (["tokenizer.kind=bpe", "tokenizer.vocab_size=20"], "tokenizer.vocab_size", "greater than or equal to 257"),
        (["dedup.threshold=1.5"], "dedup.threshold", "less than or equal to 1"),
        (["sources.0.weight=.nan"], "sources.0.weight", "finite"),
        (["sources=[]"], "sources", "at least 1"),
        (["clean.sources=[wbe]"], "clean.sources", "no source 'wbe'; known: books, web"),
        (["filter.sources=[wbe]"], "filter.sources", "no source 'wbe'"),
        (["filter.max_top_2_gram=2"], "filter.max_top_2_gram", "less than or equal to 1"),
        (["quality.positives=[books]"], "quality.positives", "required to train"),
        (["quality={positives: [books], negatives: [x]}"], "quality.negatives", "no source 'x'"),
        (["quality={positives: [books], negatives: [books]}"], "quality.negatives", "among the positives too"),
        (["quality={positives: [books], model: m}"], "quality.model", "leave one of the two out"),
    ],
)
def test_contradictions(tmp_path: Path, overrides: list[str], key: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, MINIMAL, *overrides)
    found = {problem.key: str(problem) for problem in caught.value.problems}
    assert message in found[key]


@settings(deadline=None)
@given(
    tree=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["out", "sources", "name", "clean", "tokenizer", "kind", "x"]), inner)
        ),
    )
)
def test_any_tree_is_a_recipe_or_an_input_error(tmp_path_factory: pytest.TempPathFactory, tree: object) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(yaml.safe_dump(tree))
    try:
        assert isinstance(load_recipe(path), Recipe)
    except InputError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize("path", sorted(CORPORA.glob("*.yaml")), ids=lambda path: path.stem)
def test_committed_recipes_are_valid(path: Path) -> None:
    load_recipe(path)


def test_mt_nlg_is_exact() -> None:
    recipe = load_recipe(CORPORA / "mt_nlg.yaml")
    weights = {source.name: source.weight for source in recipe.sources}
    assert len(weights) == 15
    assert sum(weights.values()) == pytest.approx(1, abs=1e-9)
    assert weights["openwebtext2"] == 0.19336
    assert weights["nih_exporter"] == 0.00208
    assert recipe.blend.epochs["wikipedia"] == 3.2
    assert len(recipe.blend.epochs) == 15
    assert recipe.blend.tokens == 270_000_000_000
    dedup = recipe.dedup
    assert (dedup.num_perm, dedup.bands, dedup.rows, dedup.threshold) == (260, 20, 13, 0.8)
    assert (recipe.clean.min_characters, recipe.clean.boilerplate_min_characters) == (512, 256)
    assert recipe.clean.boilerplate_words == ("javascript",)
