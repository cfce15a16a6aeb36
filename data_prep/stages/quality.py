"""Quality scores, and who is kept by them: `shards/quality/`, with the classifier, all scores and a histogram."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data_prep.classifier import ABOUT, WEIGHTS, Features, Model, features_of, join, load_model, save_model, train
from data_prep.execution.units import Result
from data_prep.files import file_sha256, replacing
from data_prep.jobs import Built, Done, progress_bar
from data_prep.recipe import Quality as Rules
from data_prep.recipe import Recipe
from data_prep.shards import ShardWriter, read_batches, text_bytes, with_attributes
from data_prep.stages.base import (
    DocumentStage,
    Progress,
    flat,
    keep_documents,
    stem,
    sum_by_source,
    take_over_unit,
)
from data_prep.tally import Tally
from megatron_nlg.config.errors import InputError

PICTURE = "quality.png"
_BINS = 20
_HELD_OUT = 0.1
_MIN_DOCUMENTS = 10


class Quality(DocumentStage):
    """MT-NLG, section 3. Off in a recipe without the section."""

    name = "quality"
    mend = "lower quality.alpha, or learn from other positives"

    def wanted(self, recipe: Recipe) -> bool:
        """Whether the section is there."""
        return recipe.quality is not None

    def settings(self, progress: Progress) -> Any:
        """Its section, the seed of its draws, and the content of a given classifier."""
        rules = _rules(progress)
        given = given_model(progress.recipe)
        section = rules.model_dump(mode="json", exclude={"model"})
        return [section, progress.recipe.seed, file_sha256(given / WEIGHTS) if given else None]

    def build(self, progress: Progress, before: Done, work: Path) -> Built:
        """Train or take over the classifier, then score and thin out each shard."""
        rules, seed, shards = _rules(progress), progress.recipe.seed, before.summary["shards"]
        given = given_model(progress.recipe)
        model, about = load_model(given) if given else _train(progress, before, work)
        save_model(work, model, {k: v for k, v in about.items() if k not in ("format", "max_words", "sha256")})
        chosen = [s for s in shards if rules.sources is None or s in rules.sources]
        names = [name for source in chosen for name in shards[source]]
        tasks = {stem(name): (before.folder / name, rules, seed) for name in names}
        results = progress.job.map_units(self.name, work, score_unit, tasks)
        others = {stem(name): (before.folder / name, None) for name in flat(shards) if name not in names}
        if others:
            results |= progress.job.map_units(self.name, work, take_over_unit, others)
        histogram = {s: np.sum([results[stem(n)]["histogram"] for n in shards[s]], 0).tolist() for s in chosen}
        plot_histogram(work / PICTURE, histogram)
        details = {"classifier": about, "score_histogram": histogram}
        summary = {"shards": shards, "sources": sum_by_source(shards, results), "details": details}
        return Built(summary, [*flat(shards), *map(_scores_name, names), WEIGHTS, ABOUT, PICTURE])


def _rules(progress: Progress) -> Rules:
    assert progress.recipe.quality is not None
    return progress.recipe.quality


def given_model(recipe: Recipe) -> Path | None:
    """Folder of the classifier that the recipe names."""
    return recipe.input_path(recipe.quality.model) if recipe.quality and recipe.quality.model else None


def _scores_name(shard: str) -> str:
    return f"{stem(shard)}.scores.parquet"


def draws(ids: Sequence[str], seed: int, purpose: str) -> NDArray[np.float64]:
    """A number in [0, 1) for each document, from its id and the seed alone; [documents]."""
    key = f"{purpose}:{seed}".encode()
    data = b"".join(hashlib.blake2b(name.encode(), digest_size=8, key=key).digest() for name in ids)
    return (np.frombuffer(data, "<u8") >> np.uint64(11)).astype(np.float64) * 2.0**-53


def keeps(scores: NDArray[np.float64], ids: Sequence[str], rules: Rules, seed: int) -> NDArray[np.bool_]:
    """Which documents stay; [documents]."""
    if rules.rule == "threshold":
        return scores >= rules.threshold
    # numpy.random.pareto's distribution (GPT-3, appendix A), from a uniform draw by its inverse
    pareto = np.power(1 - draws(ids, seed, "keep"), -1 / rules.alpha) - 1
    return np.asarray(pareto > 1 - scores)


def _train(progress: Progress, before: Done, work: Path) -> tuple[Model, dict[str, Any]]:
    """The classifier of the recipe's positives and negatives, and how it does on documents that it has not seen."""
    rules, seed = _rules(progress), progress.recipe.seed
    tasks: dict[str, Any] = {}
    for label, names in ((True, rules.positives or ()), (False, rules.negatives or ())):
        total = sum(before.summary["sources"][name]["documents_out"] for name in names)
        share = min(1.0, rules.train_documents / max(total, 1))
        for shard in (shard for name in names for shard in before.summary["shards"][name]):
            tasks[stem(shard)] = (before.folder / shard, rules, seed, share, label)
    progress.job.map_units("quality: sample", work / "sample", sample_unit, tasks)
    arrays = [np.load(work / "sample" / f"{name}.npz") for name in tasks]
    features = join([Features(part["starts"], part["buckets"]) for part in arrays])
    good = np.repeat([task[-1] for task in tasks.values()], [len(part["held_out"]) for part in arrays])
    held_out = np.concatenate([part["held_out"] for part in arrays])
    learn = ~held_out
    for side, mask in (("positives", good), ("negatives", ~good)):
        if (mask & learn).sum() < _MIN_DOCUMENTS or not (mask & held_out).any():
            raise InputError(
                f"quality.{side}: {int(mask.sum())} documents, of which {int((mask & held_out).sum())} are held out, "
                f"are too few to train and test a classifier; name sources with more"
            )
    with progress_bar("quality: train", None):
        model = train(_select(features, learn), good[learn], rules.bucket_bits, rules.max_words)
    right = (model.of_features(_select(features, held_out)) > 0.5) == good[held_out]
    sides = good[held_out]
    about = {
        "positives": int((good & learn).sum()),
        "negatives": int((~good & learn).sum()),
        "held_out": int(held_out.sum()),
        "held_out_accuracy": round(float(right.mean()), 4),
        "held_out_accuracy_positives": round(float(right[sides].mean()), 4),
        "held_out_accuracy_negatives": round(float(right[~sides].mean()), 4),
    }
    return model, about


def _select(features: Features, mask: NDArray[np.bool_]) -> Features:
    counts = np.diff(features.starts)
    return Features(np.concatenate([[0], np.cumsum(counts[mask])]), features.buckets[np.repeat(mask, counts)])


def sample_unit(work: Path, name: str, task: tuple[Path, Rules, int, float, bool]) -> Result:
    """Features of a share of a shard's documents, as `NAME.npz`."""
    path, rules, seed, share, _ = task
    parts, held_out = [], []
    for batch in read_batches(path, ["id", "text"]):
        ids = batch.column("id").to_pylist()
        drawn = draws(ids, seed, "sample") < share
        parts.append(features_of(batch.column("text").filter(pa.array(drawn)), rules.bucket_bits, rules.max_words))
        held_out.append(draws(ids, seed, "held out")[drawn] < _HELD_OUT)
    features = join(parts) if parts else Features(np.zeros(1, np.int64), np.zeros(0, np.int32))
    with replacing(work / f"{name}.npz") as temporary, temporary.open("wb") as stream:
        held = np.concatenate([np.zeros(0, bool), *held_out])
        np.savez(stream, starts=features.starts, buckets=features.buckets, held_out=held)
    return {"documents": len(held)}


def score_unit(work: Path, name: str, task: tuple[Path, Rules, int]) -> Result:
    """Score one shard: all scores to `NAME.scores.parquet`, and the documents that stay to a shard of the same name."""
    path, rules, seed = task
    model, _ = load_model(work)
    tally, histogram = Tally(), np.zeros(_BINS, np.int64)
    columns: list[list[pa.Array]] = []
    with ShardWriter(work / path.name) as writer:
        for batch in read_batches(path):
            # Rounded first: what is written is what decides.
            scores = model.scores(batch.column("text")).round(4)
            keep = keeps(scores, batch.column("id").to_pylist(), rules, seed)
            histogram += np.histogram(scores, _BINS, (0, 1))[0]
            columns.append([batch.column("id"), pa.array(scores, pa.float32()), pa.array(keep)])
            scored = with_attributes(batch, {"quality_score": pa.array([f"{score:.4f}" for score in scores])})
            writer.write(keep_documents(scored, text_bytes(batch.column("text")), [("low_quality", ~keep)], tally))
    schema = pa.schema([("id", pa.string()), ("score", pa.float32()), ("keep", pa.bool_())])
    table = pa.Table.from_batches([pa.RecordBatch.from_arrays(arrays, schema=schema) for arrays in columns], schema)
    with replacing(work / _scores_name(path.name)) as temporary, temporary.open("wb") as stream:
        pq.write_table(table.combine_chunks(), stream, compression="zstd")
    return {"tally": tally.as_json(), "histogram": histogram.tolist()}


def plot_histogram(path: Path, histogram: Mapping[str, Sequence[int]]) -> None:
    """Documents by score, a line a source."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    edges = np.linspace(0, 1, _BINS + 1)
    for source, counts in histogram.items():
        axes.stairs(counts, edges, label=source, linewidth=1.5)
    axes.set(xlabel="quality score", ylabel="documents", xlim=(0, 1), ylim=(0, None))
    axes.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
