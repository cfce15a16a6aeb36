"""The recipe: what raw text is read and what is done to it. One documented field is one setting.

Relative paths of inputs (`sources.*.paths`, `tokenizer.vocab`, `tokenizer.merges`, `tokenizer.load`) start from `root`;
`root` and `out` themselves start from the current directory, in the file and on the command line alike. `~` and
environment variables are not expanded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from megatron_nlg.config.base import Section, apply_overrides, build, read_yaml
from megatron_nlg.config.errors import ConfigError, InputError, Problem


def _whole(value: Any) -> Any:
    """`64e6` is a float in YAML and a count to a reader."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _tuple(value: Any) -> Any:
    """YAML knows lists only."""
    return tuple(value) if isinstance(value, list) else value


def _listed(value: Any) -> Any:
    """`paths: a.txt` is one path."""
    return [value] if isinstance(value, str) else value


Count = Annotated[int, BeforeValidator(_whole), Field(ge=0)]
Positive = Annotated[int, BeforeValidator(_whole), Field(ge=1)]
Strings = Annotated[tuple[str, ...], BeforeValidator(_tuple), BeforeValidator(_listed)]

PYTHON_FORMATS = ("python_documentation", "python_modules")


class Source(Section):
    """One named part of the corpus: its own token files, its own weight in the blend."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    """Letters, digits, - and _; names the files `tokens/NAME.bin` and the validation loss."""
    paths: Strings = ()
    """Files, folders (searched recursively) and globs (`**` for any depth); `.gz` is unpacked. None for the formats
    that read the Python installation."""
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Share of the training samples, relative to the other sources' weights."""
    format: Literal["auto", "text", "jsonl", "python_documentation", "python_modules"] = "auto"
    """auto goes by the ending: .jsonl and .ndjson are JSON lines; .txt, .text, .md and .rst are text, as is any file
    that is named by itself. The Python formats are the documentation and the module sources of the standard library."""
    text_key: str = "text"
    """Key of a JSON line that holds the text; `url` is kept as such, all other keys as attributes."""
    split: Literal["file", "blank_lines", "parts", "parts_at_lines"] = "file"
    """A document of a text file: the whole file, a run of lines between blank ones, or one of `parts` equal cuts, made
    exactly there or at the start of the line."""
    parts: Positive = 10
    """Documents that the two `parts` splits cut a file into; the i-th cut is at characters × i // parts."""


class Clean(Section):
    """What happens to a document's text, and which documents are too short (MT-NLG, section 3)."""

    ftfy: bool = True
    """Repair mojibake, HTML entities, control characters and look-alike forms with ftfy; NFC."""
    whitespace: bool = True
    """Newlines become \\n, spaces at line ends go, three blank lines or more become two, the ends are stripped."""
    min_characters: Count = 512
    """Shorter documents are dropped."""
    max_characters: Positive | None = None
    """Longer documents are dropped; no limit when not given."""
    boilerplate_words: Strings = ("javascript",)
    """Documents below boilerplate_min_characters that contain one of these, in any case, are dropped."""
    boilerplate_min_characters: Count = 256
    """See boilerplate_words."""


class Dedup(Section):
    """Duplicates: of each group only the first document of the first source in the recipe's order survives."""

    exact: bool = True
    """Drop documents that are equal but for case and white space."""
    fuzzy: bool = True
    """Drop documents whose sets of word n-grams are similar: MinHash candidates, verified, connected components."""
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Jaccard similarity of two documents from which on they are one."""
    num_perm: Positive = 260
    """Min-hashes of a document."""
    bands: Positive | None = 20
    """Bands of min-hashes; two documents are compared when all rows of one band agree. null, with rows: datasketch's
    optimum for threshold and num_perm."""
    rows: Positive | None = 13
    """Min-hashes in a band; bands × rows may not exceed num_perm."""
    shingle_words: Positive = 5
    """Words in an n-gram."""


class TokenizerRecipe(Section):
    """Where the tokenizer comes from: trained on the corpus (kind), or given (kind gpt2, or load)."""

    kind: Literal["bpe", "sentencepiece", "char", "gpt2"] | None = None
    """Byte-level BPE, sentencepiece or characters, trained here; or GPT-2's vocabulary and merges."""
    vocab_size: Annotated[int, BeforeValidator(_whole), Field(ge=257)] | None = None
    """Entries of bpe and sentencepiece."""
    model: Literal["bpe", "unigram"] = "bpe"
    """sentencepiece's algorithm."""
    train_bytes: Positive | None = None
    """Train on about this many bytes, evenly spread documents of the corpus; on all of it when not given."""
    vocab: str | None = None
    """GPT-2's vocab.json."""
    merges: str | None = None
    """GPT-2's merges.txt."""
    load: str | None = None
    """A tokenizer folder of an earlier preparation, instead of kind."""


class Tokenize(Section):
    """How documents become tokens."""

    append_eod: bool = True
    """End every document with the end-of-document token. Off only where documents are cuts of one text."""


class Recipe(Section):
    """A whole preparation."""

    out: str
    """Folder of the prepared corpus, from the current directory."""
    root: str = "."
    """Folder that relative input paths start from; itself from the current directory."""
    sources: Annotated[tuple[Source, ...], BeforeValidator(_tuple), Field(min_length=1)]
    """In order of priority: of duplicates in two sources the earlier source's survives."""
    clean: Clean = Clean()
    """Text repair and length rules."""
    dedup: Dedup = Dedup()
    """Exact and fuzzy deduplication, over all sources at once."""
    tokenizer: TokenizerRecipe
    """Trained or given."""
    tokenize: Tokenize = Tokenize()
    """Documents to tokens."""
    seed: Count = 1234
    """Of the min-hash permutations."""
    processes: Count = 0
    """Worker processes; 0 for all cores. No output depends on it."""
    shard_bytes: Positive = 64 << 20
    """Text in a shard, and input in a unit of work that is resumed as a whole."""

    def input_path(self, path: str) -> Path:
        """A path of the recipe from the current directory."""
        return Path(self.root) / path


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe with its overrides, or raise a ConfigError that lists every problem.

    Items of `sources` are overridden by position or by name: `sources.0.weight=2`, `sources.books.weight=2`.
    """
    tree = _apply(read_yaml(path), overrides)
    recipe = build(Recipe, tree, str(path))
    problems = [*_source_problems(recipe), *_dedup_problems(recipe.dedup), *_tokenizer_problems(recipe.tokenizer)]
    if problems:
        raise ConfigError(problems, str(path))
    return recipe


def _apply(tree: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Overrides of single items of `sources` go through a mapping by position; the rest is plain."""
    for override in overrides:
        key = override.partition("=")[0].split(".")
        sources = tree.get("sources")
        if key[0] != "sources" or len(key) == 1 or not isinstance(sources, list):
            tree = apply_overrides(tree, [override])
            continue
        names = [item.get("name") if isinstance(item, dict) else None for item in sources]
        position = str(names.index(key[1])) if key[1] in names else key[1]
        if position not in map(str, range(len(sources))):
            known = ", ".join(str(name) for name in names)
            raise InputError(f"override {override!r}: no source {key[1]!r}; known: 0 to {len(sources) - 1}, {known}")
        items = dict(zip(map(str, range(len(sources))), sources, strict=True))
        rest = override.split(".", 2)[2] if len(key) > 2 else override.partition("=")[2]
        renamed = f"sources.{position}.{rest}" if len(key) > 2 else f"sources.{position}={rest}"
        items = apply_overrides({"sources": items}, [renamed])["sources"]
        tree = {**tree, "sources": list(items.values())}
    return dict(tree)


def _source_problems(recipe: Recipe) -> Iterator[Problem]:
    names = [source.name for source in recipe.sources]
    for i, source in enumerate(recipe.sources):
        if source.name in names[:i]:
            yield Problem(f"sources.{i}.name", f"{source.name!r} is given twice", "names must differ")
        reads_python = source.format in PYTHON_FORMATS
        if reads_python and source.paths:
            yield Problem(f"sources.{i}.paths", f"format {source.format} reads the Python installation", "leave it out")
        if not reads_python and not source.paths:
            yield Problem(f"sources.{i}.paths", "is required", "give files, folders or globs")


def _dedup_problems(dedup: Dedup) -> Iterator[Problem]:
    if (dedup.bands is None) != (dedup.rows is None):
        yield Problem("dedup.bands", f"{dedup.bands}, with dedup.rows {dedup.rows}", "give both, or null for both")
    elif dedup.bands and dedup.rows and dedup.bands * dedup.rows > dedup.num_perm:
        yield Problem(
            "dedup.num_perm",
            f"{dedup.num_perm} min-hashes are fewer than bands {dedup.bands} × rows {dedup.rows}",
            "raise it, or set bands and rows to null for datasketch's optimum",
        )


def _tokenizer_problems(tokenizer: TokenizerRecipe) -> Iterator[Problem]:
    if (tokenizer.kind is None) == (tokenizer.load is None):
        yield Problem(
            "tokenizer.kind",
            f"{tokenizer.kind}, with tokenizer.load {tokenizer.load}",
            "give kind (bpe, sentencepiece, char or gpt2), or load for a tokenizer folder",
        )
        return
    trained = tokenizer.kind in ("bpe", "sentencepiece")
    if trained and tokenizer.vocab_size is None:
        yield Problem("tokenizer.vocab_size", f"is required to train {tokenizer.kind}", "32000 suits large corpora")
    if not trained and tokenizer.vocab_size is not None:
        yield Problem("tokenizer.vocab_size", f"{tokenizer.vocab_size} can't be chosen here", "leave it out")
    for key in ("vocab", "merges"):
        value = getattr(tokenizer, key)
        if tokenizer.kind == "gpt2" and value is None:
            yield Problem(f"tokenizer.{key}", "is required by kind gpt2", "give GPT-2's vocab.json and merges.txt")
        elif tokenizer.kind != "gpt2" and value is not None:
            yield Problem(f"tokenizer.{key}", f"{value!r} belongs to kind gpt2", "leave it out, or set kind to gpt2")
