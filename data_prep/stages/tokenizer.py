"""The tokenizer, trained on the corpus or taken over: `tokenizer/`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data_prep.jobs import Built, Done, finished, progress_bar, stage_key
from data_prep.recipe import Recipe, TokenizerRecipe
from data_prep.shards import read_documents
from data_prep.stages.base import Progress, Stage, flat
from data_prep.tokenizer import (
    BytePairTokenizer,
    CharacterTokenizer,
    HuggingFaceTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    load_tokenizer,
)
from megatron_nlg.config.errors import InputError


class TrainTokenizer(Stage):
    """Its summary is what `meta.json` says."""

    name = "tokenizer"

    def run(self, progress: Progress) -> Done:
        """Bring `tokenizer/` up to date."""
        documents, given = progress.documents, progress.inputs.tokenizer
        settings = progress.recipe.tokenizer

        def build(work: Path) -> Built:
            tokenizer = given or _train(settings, documents)
            tokenizer.save(work)
            meta: dict[str, Any] = {"kind": tokenizer.kind, "identity": tokenizer.identity}
            meta |= {"vocab_size": tokenizer.vocab_size, "eod": tokenizer.eod}
            return Built(meta, [path.name for path in work.iterdir() if not path.name.startswith(".")])

        # A given tokenizer depends on nothing but its content, wherever it lay.
        trained = {"documents": documents.key, "settings": settings.model_dump(mode="json")}
        depends = {"identity": given.identity} if given else trained
        folder = progress.job.out / self.name
        retire_blend(progress, self, depends, folder)
        return progress.job.run_stage(self.name, self.version, depends, folder, build)


def given_tokenizer(recipe: Recipe) -> Tokenizer | None:
    """The tokenizer that a recipe names, or None when it is to be trained; raises InputError for a bad one."""
    settings = recipe.tokenizer
    if settings.load is not None:
        return load_tokenizer(recipe.input_path(settings.load))
    if settings.vocab is not None and settings.merges is not None:
        return BytePairTokenizer.from_gpt2(recipe.input_path(settings.vocab), recipe.input_path(settings.merges))
    if settings.file is None:
        return None
    path = recipe.input_path(settings.file)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"tokenizer.file: {path}: {error.strerror}") from None
    if settings.kind == "sentencepiece":
        return SentencePieceTokenizer(content, str(path), settings.eod)
    return HuggingFaceTokenizer(content.decode("utf-8", "replace"), str(path), settings.eod)


def retire_blend(progress: Progress, stage: Stage, depends: Mapping[str, Any], folder: Path) -> None:
    """Before a stage replaces what blend.yaml speaks of: it must never describe files that are not there."""
    found = finished(stage.name, folder, progress.job.verify)
    if found is None or found.key != stage_key(stage.name, stage.version, depends):
        (progress.job.out / "blend.yaml").unlink(missing_ok=True)


def _train(settings: TokenizerRecipe, documents: Done) -> Tokenizer:
    texts = sample(documents, settings.train_bytes)
    with progress_bar("tokenizer", None):
        if settings.kind == "char":
            return CharacterTokenizer.train(texts)
        assert settings.vocab_size is not None  # the recipe's own check
        if settings.kind == "sentencepiece":
            return SentencePieceTokenizer.train(texts, settings.vocab_size, settings.model)
        return BytePairTokenizer.train(texts, settings.vocab_size)


def sample(documents: Done, train_bytes: int | None) -> Iterator[str]:
    """Texts of the corpus in order; about `train_bytes` of them, evenly spread, when that is less than all."""
    total = sum(source["bytes_out"] for source in documents.summary["sources"].values())
    share = min(1.0, train_bytes / total) if train_bytes else 1.0
    seen = 0
    for name in flat(documents.summary["shards"]):
        for document in read_documents(documents.folder / name):
            seen += 1
            if int(seen * share) > int((seen - 1) * share):
                yield document.text
