"""The stages of a preparation: read, clean, dedup, tokenizer, tokenize, blend. Each names what it depends on."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_prep import python_corpus
from data_prep.blend import Blend, BlendSource, BlendTokenizer, write_blend
from data_prep.clean import clean_text, drop_reason
from data_prep.dedup.stage import build_dedup
from data_prep.files import fingerprint, json_text, replacing, write_json, write_text, write_text_if_changed
from data_prep.indexed import IndexedWriter, token_dtype
from data_prep.jobs import Built, Done, Job, Result, finished, progress
from data_prep.readers import InputFile, Reject, find_files, read_file, units
from data_prep.recipe import PYTHON_FORMATS, Clean, Recipe, Source
from data_prep.shards import Document, read_documents, write_shard
from data_prep.tally import Tally
from data_prep.tokenizer import (
    BytePairTokenizer,
    CharacterTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    load_tokenizer,
)
from megatron_nlg.config.errors import ConfigError, InputError

STAGES = ("read", "clean", "dedup", "tokenizer", "tokenize", "blend")
_FORMAT = 1  # raised when a stage's output changes for the same recipe, so that old folders are not taken for new
_BATCH_DOCUMENTS = 256


class Inputs(NamedTuple):
    """What a recipe reads: each source's files, and the tokenizer when one is given."""

    files: dict[str, list[InputFile]]
    tokenizer: Tokenizer | None


def find_inputs(recipe: Recipe) -> Inputs:
    """Look at all inputs before anything is written; raises InputError for those that are missing or damaged."""
    files: dict[str, list[InputFile]] = {}
    problems = []
    for source in recipe.sources:
        files[source.name], found = find_files(recipe, source)
        problems += found
    if problems:
        raise ConfigError(problems, "recipe")
    settings = recipe.tokenizer
    tokenizer: Tokenizer | None = None
    if settings.load is not None:
        tokenizer = load_tokenizer(recipe.input_path(settings.load))
    elif settings.vocab is not None and settings.merges is not None:
        vocab, merges = recipe.input_path(settings.vocab), recipe.input_path(settings.merges)
        tokenizer = BytePairTokenizer.from_gpt2(vocab, merges)
    return Inputs(files, tokenizer)


@dataclass
class Pipeline:
    """A recipe on its way; `done` holds the stages finished so far, by name."""

    recipe: Recipe
    inputs: Inputs
    job: Job
    done: dict[str, Done] = field(default_factory=dict)

    def run(self, last: str) -> Iterator[tuple[str, Done | Blend]]:
        """Run the stages up to `last`, yielding each as it is finished."""
        runners: dict[str, Callable[[], Done | Blend]] = {
            "read": self._read,
            "clean": self._clean,
            "dedup": self._dedup,
            "tokenizer": self._tokenizer,
            "tokenize": self._tokenize,
            "blend": self._blend,
        }
        for name in STAGES[: STAGES.index(last) + 1]:
            result = runners[name]()
            if isinstance(result, Done):
                self.done[name] = result
                if not result.was_done:
                    self._write_reports()
            yield name, result
        self._write_reports()  # if it was killed between a stage and its report

    def _key(self, stage: str, before: str | None, settings: Any) -> str:
        return fingerprint([_FORMAT, stage, self.done[before].key if before else None, settings])

    def _read(self) -> Done:
        recipe, plan = self.recipe, self.inputs.files
        settings = [[s.model_dump(mode="json", exclude={"weight"}) for s in recipe.sources], recipe.shard_bytes]
        inputs = {s.name: _fingerprint(s, plan[s.name]) for s in recipe.sources}
        key = self._key("read", None, [settings, inputs])
        return self.job.run_stage(
            "read", key, inputs, self.job.out / "shards" / "read", lambda work: self._build_read(work, plan)
        )

    def _build_read(self, work: Path, plan: Mapping[str, list[InputFile]]) -> Built:
        tasks: dict[str, Any] = {}
        for source in self.recipe.sources:
            runs = [[]] if source.format in PYTHON_FORMATS else list(units(plan[source.name], self.recipe.shard_bytes))
            tasks |= {f"{source.name}-{i:05d}": (source, run, self.recipe.shard_bytes) for i, run in enumerate(runs)}
        results = self.job.map_units("read", work, read_unit, tasks)
        shards: dict[str, list[str]] = {source.name: [] for source in self.recipe.sources}
        tallies: dict[str, list[Any]] = {source.name: [] for source in self.recipe.sources}
        with replacing(work / "rejects.jsonl") as temporary, temporary.open("w", encoding="utf-8") as stream:
            for name, result in results.items():
                source = tasks[name][0].name
                shards[source] += result["shards"]
                tallies[source].append(result["tally"])
                stream.writelines(_lines(work / f"{name}.rejects"))
        counts = {name: Tally.sum(parts) for name, parts in tallies.items()}
        _refuse_empty(counts, "read", "rejects.jsonl lists them", work / "rejects.jsonl")
        summary = {"shards": shards, "sources": counts}
        return Built(summary, [*(name for names in shards.values() for name in names), "rejects.jsonl"])

    def _clean(self) -> Done:
        rules, read = self.recipe.clean, self.done["read"]

        def build(work: Path) -> Built:
            shards = read.summary["shards"]
            tasks = {name.removesuffix(".parquet"): (read.folder / name, rules) for name in _flat(shards)}
            results = self.job.map_units("clean", work, clean_unit, tasks)
            counts = sum_by_source(shards, results)
            _refuse_empty(counts, "clean", "loosen the recipe's clean section")
            return Built({"shards": shards, "sources": counts}, _flat(shards))

        key = self._key("clean", "read", rules.model_dump(mode="json"))
        return self.job.run_stage("clean", key, [read.key], self.job.out / "shards" / "clean", build)

    def _dedup(self) -> Done:
        rules, seed, clean = self.recipe.dedup, self.recipe.seed, self.done["clean"]

        def build(work: Path) -> Built:
            built = build_dedup(self.job, work, clean, rules, seed)
            _refuse_empty(
                built.summary["sources"], "dedup", "it holds nothing that earlier sources do not; leave it out"
            )
            return built

        key = self._key("dedup", "clean", [rules.model_dump(mode="json"), seed])
        return self.job.run_stage("dedup", key, [clean.key], self.job.out / "shards" / "dedup", build)

    def _tokenizer(self) -> Done:
        dedup, given = self.done["dedup"], self.inputs.tokenizer

        def build(work: Path) -> Built:
            tokenizer = given or self._train_tokenizer(dedup)
            tokenizer.save(work)
            meta: dict[str, Any] = {"kind": tokenizer.kind, "identity": tokenizer.identity}
            meta |= {"vocab_size": tokenizer.vocab_size, "eod": tokenizer.eod}
            return Built(meta, [path.name for path in work.iterdir() if not path.name.startswith(".")])

        # A given tokenizer depends on nothing but its content, wherever it lay.
        inputs = [given.identity] if given else [dedup.key]
        key = self._key("tokenizer", None, [None if given else self.recipe.tokenizer.model_dump(mode="json"), inputs])
        folder = self.job.out / "tokenizer"
        self._retire_blend("tokenizer", key, folder)
        return self.job.run_stage("tokenizer", key, inputs, folder, build)

    def _train_tokenizer(self, dedup: Done) -> Tokenizer:
        settings = self.recipe.tokenizer
        texts = _sample(dedup, settings.train_bytes)
        with progress("tokenizer", None):
            if settings.kind == "char":
                return CharacterTokenizer.train(texts)
            assert settings.vocab_size is not None  # the recipe's own check
            if settings.kind == "sentencepiece":
                return SentencePieceTokenizer.train(texts, settings.vocab_size, settings.model)
            return BytePairTokenizer.train(texts, settings.vocab_size)

    def _tokenize(self) -> Done:
        dedup, tokenizer, eod = self.done["dedup"], self.done["tokenizer"], self.recipe.tokenize.append_eod

        def build(work: Path) -> Built:
            shards = dedup.summary["shards"]
            parts = {source: [f"{n.removesuffix('.parquet')}.part" for n in names] for source, names in shards.items()}
            argument = (str(tokenizer.folder), tokenizer.summary["identity"], eod)
            tasks = {
                part: (dedup.folder / name, *argument)
                for source, names in shards.items()
                for part, name in zip(parts[source], names, strict=True)
            }
            results = self.job.map_units("tokenize", work, tokenize_unit, tasks)
            merges = {source: (parts[source], tokenizer.summary, eod) for source in shards}
            summary = self.job.map_units("tokenize: join", work, join_unit, merges)
            for source, about in summary.items():
                about["bytes"] = sum(results[part]["bytes"] for part in parts[source])
            return Built(summary, [f"{source}.{ending}" for source in shards for ending in ("bin", "idx", "json")])

        key = self._key("tokenize", "dedup", [tokenizer.summary["identity"], eod])
        folder = self.job.out / "tokens"
        self._retire_blend("tokenize", key, folder)
        return self.job.run_stage("tokenize", key, [dedup.key, tokenizer.key], folder, build)

    def _blend(self) -> Blend:
        meta, tokens = self.done["tokenizer"].summary, self.done["tokenize"].summary
        sources = [
            BlendSource(
                name=source.name,
                tokens=f"tokens/{source.name}",
                weight=source.weight,
                documents=tokens[source.name]["documents"],
                token_count=tokens[source.name]["tokens"],
            )
            for source in self.recipe.sources
        ]
        blend = Blend(tokenizer=BlendTokenizer(path="tokenizer", **meta), sources=tuple(sources))
        write_blend(self.job.out / "blend.yaml", blend)
        return blend

    def _retire_blend(self, stage: str, key: str, folder: Path) -> None:
        """Before a stage replaces what blend.yaml speaks of: it must never describe files that are not there."""
        found = finished(stage, folder)
        if found is None or found.key != key:
            (self.job.out / "blend.yaml").unlink(missing_ok=True)

    def _write_reports(self) -> None:
        """`stats.json`, `recipe.yaml` (resolved) and `rejects.jsonl`, of the stages finished so far."""
        import yaml

        out, done = self.job.out, self.done
        stages = {}
        for name in ("read", "clean", "dedup"):
            if name in done:
                by_source = done[name].summary["sources"]
                stages[name] = {"sources": by_source, "total": Tally.sum(by_source.values())}
        stats: dict[str, Any] = {"stages": stages}
        if "dedup" in done:
            stats["dedup"] = done["dedup"].summary["clusters"]
        if "tokenizer" in done:
            stats["tokenizer"] = done["tokenizer"].summary
        if "tokenize" in done:
            stats["tokens"] = {
                source: {key: about[key] for key in ("documents", "tokens", "bytes")}
                for source, about in done["tokenize"].summary.items()
            }
        write_text_if_changed(out / "stats.json", json_text(stats))
        # Neither of the two left out changes any output: the same recipe gives the same bytes everywhere.
        shown = self.recipe.model_dump(mode="json", exclude={"out", "processes"})
        write_text_if_changed(out / "recipe.yaml", yaml.safe_dump(shown, sort_keys=False, allow_unicode=True))
        write_text_if_changed(
            out / "rejects.jsonl", (done["read"].folder / "rejects.jsonl").read_text(encoding="utf-8")
        )


def read_unit(work: Path, name: str, task: tuple[Source, list[InputFile], int]) -> Result:
    """Read a run of files into shards `NAME-000.parquet`, …, and a file of rejects."""
    source, files, shard_bytes = task
    tally, size = Tally(), 0
    batch: list[Document] = []
    shards: list[str] = []

    def flush() -> None:
        shards.append(f"{name}-{len(shards):03d}.parquet")
        write_shard(work / shards[-1], batch)

    with io.StringIO() as rejects:
        for item in _items(source, files):
            if isinstance(item, Reject):
                tally.drop(item.reason, item.size)
                about = {"source": source.name, **item._asdict()}
                rejects.write(json.dumps(about, ensure_ascii=False) + "\n")
                continue
            length = len(item.text.encode())
            tally.keep(length, length)
            batch.append(item)
            size += length
            if size >= shard_bytes:
                flush()
                batch, size = [], 0
        if batch:
            flush()
        write_text(work / f"{name}.rejects", rejects.getvalue())
    return {"shards": shards, "tally": tally.as_json()}


def _items(source: Source, files: Sequence[InputFile]) -> Iterator[Document | Reject]:
    if source.format == "python_documentation":
        yield from python_corpus.read_documentation(source.name)
    elif source.format == "python_modules":
        yield from python_corpus.read_modules(source.name)
    for file in files:
        yield from read_file(file, source)


def clean_unit(work: Path, name: str, task: tuple[Path, Clean]) -> Result:
    """Clean one shard into a shard of the same name."""
    path, rules = task
    tally, kept = Tally(), []
    for document in read_documents(path):
        size = len(document.text.encode())
        text = clean_text(document.text, rules)
        reason = drop_reason(text, rules)
        if reason:
            tally.drop(reason, size)
        else:
            tally.keep(size, len(text.encode()))
            kept.append(document._replace(text=text))
    write_shard(work / path.name, kept)
    return {"tally": tally.as_json()}


def tokenize_unit(work: Path, name: str, task: tuple[Path, str, str, bool]) -> Result:
    """Tokenize one shard into token files `NAME.bin` and `.idx`."""
    path, folder, identity, append_eod = task
    tokenizer = _cached_tokenizer(folder, identity)
    end, size = [tokenizer.eod] if append_eod else [], 0
    documents = list(read_documents(path))
    with IndexedWriter(work / name, token_dtype(tokenizer.vocab_size)) as writer:
        for start in range(0, len(documents), _BATCH_DOCUMENTS):
            batch = documents[start : start + _BATCH_DOCUMENTS]
            for ids, document in zip(_encode(tokenizer, batch), batch, strict=True):
                writer.add(np.array(ids + end, dtype=np.int64))
                size += len(document.text.encode())
    return {"bytes": size}


def join_unit(work: Path, name: str, task: tuple[Sequence[str], Mapping[str, Any], bool]) -> Result:
    """Join a source's parts into its token files; returns what `tokens/NAME.json` says."""
    parts, tokenizer, append_eod = task
    dtype, documents, tokens = token_dtype(tokenizer["vocab_size"]), 0, 0
    with IndexedWriter(work / name, dtype) as writer:
        for part in parts:
            info = writer.add_indexed(work / part)
            documents, tokens = documents + info.documents, tokens + info.tokens
    about = {
        "source": name,
        "documents": documents,
        "tokens": tokens,
        "dtype": str(dtype),
        "tokenizer_identity": tokenizer["identity"],
        "append_eod": append_eod,
        "bin_bytes": tokens * dtype.itemsize,
        "sha256": writer.digest.hexdigest(),
    }
    write_json(work / f"{name}.json", about)
    return about


def _encode(tokenizer: Tokenizer, batch: Sequence[Document]) -> list[list[int]]:
    try:
        return tokenizer.encode_batch([document.text for document in batch])
    except InputError:
        for document in batch:  # once more, to name the one
            try:
                tokenizer.encode(document.text)
            except InputError as error:
                raise InputError(f"document {document.id}: {error}") from None
        raise


@lru_cache(maxsize=1)
def _cached_tokenizer(folder: str, identity: str) -> Tokenizer:
    tokenizer = load_tokenizer(Path(folder))
    assert tokenizer.identity == identity
    return tokenizer


def _sample(dedup: Done, train_bytes: int | None) -> Iterator[str]:
    """Texts of the corpus in order; about `train_bytes` of them, evenly spread, when that is less than all."""
    total = sum(source["bytes_out"] for source in dedup.summary["sources"].values())
    share = min(1.0, train_bytes / total) if train_bytes else 1.0
    seen = 0
    for name in _flat(dedup.summary["shards"]):
        for document in read_documents(dedup.folder / name):
            seen += 1
            if int(seen * share) > int((seen - 1) * share):
                yield document.text


def sum_by_source(shards: Mapping[str, Sequence[str]], results: Mapping[str, Result]) -> dict[str, Any]:
    """Tallies of shards, summed for each source."""
    return {
        source: Tally.sum(results[name.removesuffix(".parquet")]["tally"] for name in names)
        for source, names in shards.items()
    }


def _flat(shards: Mapping[str, Sequence[str]]) -> list[str]:
    return [name for names in shards.values() for name in names]


def _lines(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="\n") as stream:
        return stream.readlines()


def _fingerprint(source: Source, files: Sequence[InputFile]) -> Any:
    if source.format in PYTHON_FORMATS:
        return python_corpus.fingerprint()
    stats = [(file.name, Path(file.path).stat()) for file in files]
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]


def _refuse_empty(counts: Mapping[str, Any], stage: str, mend: str, rejects: Path | None = None) -> None:
    """A source without a document left is an error now, not a failing training run later."""
    for source, tally in counts.items():
        if not tally["documents_out"]:
            dropped = (
                ", ".join(f"{n['documents']} {reason}" for reason, n in tally["dropped"].items()) or "none came in"
            )
            first = f"; the first: {_lines(rejects)[0].strip()}" if rejects and rejects.stat().st_size else ""
            raise InputError(f"source {source}: no document is left after {stage} ({dropped}){first}; {mend}")
