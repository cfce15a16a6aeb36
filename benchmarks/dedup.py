"""Deduplication: speed, accuracy, memory and over-merging beside rensa, datasketch and datatrove, in the same run.

    python -m benchmarks.dedup [--quick] [--work DIR]

Every engine runs in a process of its own, one after the other, round after round; rates are documents per CPU-second,
medians over rounds. Recall: planted pairs with Jaccard ≥ 0.8 that end in one cluster. Precision: pairs put together
that the truth links. Far: pairs put together with Jaccard < 0.6. text-dedup is not measured: it pins older versions of
packages that this project needs.

Writes benchmarks/results/dedup.json and prints its tables as Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks import dedup_corpus
from benchmarks.dedup_engines import ENGINES, Union, from_jsonl, kernel_only, ours

RESULT = Path("benchmarks/results/dedup.json")
SLOW_ROUNDS = 2  # of engines that take long
FAST = ("this project", "this project, JSONL read by polars", "rensa", "rensa, JSONL read by orjson")
SHARD, SMALL = 20_000, 1000  # documents in a shard of the scaling test, and in what it warms up on


def cpu() -> float:
    """Seconds of this process and of its children that have ended."""
    children = os.times()
    return time.process_time() + children.children_user + children.children_system


def peak_bytes() -> int:
    """Of this process since its start: ru_maxrss would count the parent it was forked from."""
    status = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in status if line.startswith("VmHWM")))


def engine(name: str, path: Path, labels: Path) -> dict[str, float]:
    """In a process of its own: seconds of one engine on a corpus, after a run on its first documents."""
    start_from, function = ENGINES[name]
    small = path.with_suffix(".small")

    def load(file: Path) -> Any:
        if start_from == "jsonl":
            return file
        texts = list(from_jsonl(file))
        return pa.array(texts, pa.large_string()) if start_from == "arrow" else texts

    function(load(small))
    given = load(path)
    wall, busy = time.perf_counter(), cpu()
    found = function(given)
    seconds = {"wall": time.perf_counter() - wall, "cpu": cpu() - busy, "peak_mb": peak_bytes() / 2**20}
    np.save(labels, np.array(found, np.int64))
    return seconds


def threads(path: Path, rounds: int) -> dict[str, Any]:
    """Wall seconds with one and two threads, in turn."""
    texts = pa.array(list(from_jsonl(path)), pa.large_string())
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds + 1):
        for count, list_ in seconds.items():
            start = time.perf_counter()
            ours(texts, count)
            list_.append(time.perf_counter() - start)
    one, two = (statistics.median(list_[1:]) for list_ in seconds.values())
    return {"one": len(texts) / one, "two": len(texts) / two, "ratio": one / two}


def kernels(path: Path) -> dict[str, float]:
    """Million shingles per CPU-second from shingle hashes in memory to signatures."""
    texts = pa.array(list(from_jsonl(path)), pa.large_string())
    rates: dict[str, list[float]] = {}
    for _ in range(6):
        for name, function in kernel_only(texts).items():
            start = time.process_time()
            function()
            rates.setdefault(name, []).append(time.process_time() - start)
    count = sum(max(1, text.count(" ") - 3) for text in texts.to_pylist())
    return {name: count / statistics.median(seconds[1:]) / 1e6 for name, seconds in rates.items()}


def scale(folder: Path, shards: int) -> dict[str, float]:
    """The stage's own units on some shards, one worker: CPU seconds and peak memory."""
    from data_prep.dedup.partitioned import Shards, find_duplicates
    from data_prep.execution.local import Local
    from data_prep.jobs import Job
    from data_prep.recipe import Dedup

    def run(files: Sequence[Path], documents: int) -> Any:
        given = Shards({file.stem: file for file in files}, np.arange(len(files) + 1) * documents)
        with tempfile.TemporaryDirectory(dir=folder) as work, Job(Path(work), Local(1)) as job:
            return find_duplicates(job, Path(work), given, Dedup(), 1)

    run([folder / "small" / "s.parquet"], SMALL)  # imports
    files = sorted(folder.glob("*.parquet"))[:shards]
    busy = cpu()
    verdict = run(files, SHARD)
    seconds = cpu() - busy
    return {"documents": len(verdict.keep), "cpu": seconds, "peak_bytes": peak_bytes(), "kept": int(verdict.keep.sum())}


def alone(*words: object) -> Any:
    """Run a part of this benchmark in its own process; its JSON."""
    limits = dict.fromkeys(("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
    command = [sys.executable, "-m", "benchmarks.dedup", "--part", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **limits}, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def score(labels: Sequence[int], corpus: dedup_corpus.Corpus, threshold: float = 0.8) -> dict[str, float]:
    """Recall, precision and far merges of pairs, and the largest cluster."""
    truth = Union(len(labels))
    similar = [pair for pair, value in corpus.pairs.items() if value >= threshold]
    for pair in similar:
        truth.join(*pair)
    linked = truth.labels()
    groups: dict[int, list[int]] = {}
    for i, label in enumerate(labels):
        groups.setdefault(int(label), []).append(i)
    together = right = far = 0
    for members in groups.values():
        for i, j in combinations(members, 2):
            together += 1
            right += linked[i] == linked[j]
            far += corpus.pairs.get((i, j), 0.0) < 0.6
    lone = sum(len({linked[i] for i in members}) - 1 for members in groups.values())
    return {
        "recall": sum(labels[i] == labels[j] for i, j in similar) / max(1, len(similar)),
        "precision": right / max(1, together),
        "far_pairs": far,
        "largest_cluster": max(map(len, groups.values())),
        "wrongly_dropped": lone / len(labels),
    }


def save(path: Path, texts: Sequence[str]) -> Path:
    """A corpus and its first documents, which engines warm up on."""
    dedup_corpus.write_jsonl(path, texts)
    dedup_corpus.write_jsonl(path.with_suffix(".small"), texts[:SMALL])
    return path


def race(work: Path, documents: int, rounds: int) -> dict[str, Any]:
    """All engines on the planted corpus, interleaved."""
    corpus = dedup_corpus.planted(documents)
    path = save(work / "planted.jsonl", corpus.texts)
    seconds: dict[str, list[Any]] = {name: [] for name in ENGINES}
    table: dict[str, Any] = {}
    for turn in range(rounds):
        for name in ENGINES:
            if turn < SLOW_ROUNDS or name in FAST:
                seconds[name].append(alone("engine", name, path, work / "labels.npy"))
                table.setdefault(name, score(np.load(work / "labels.npy").tolist(), corpus))
                print(f"round {turn}: {name}: {documents / seconds[name][-1]['cpu']:,.0f}", file=sys.stderr)
    for name, runs in seconds.items():
        for key in ("cpu", "wall"):
            table[name][f"documents_per_{key}_second"] = documents / statistics.median(run[key] for run in runs)
        table[name]["peak_mb"] = max(run["peak_mb"] for run in runs)
    similar = sum(value >= 0.8 for value in corpus.pairs.values())
    size = sum(map(len, corpus.texts)) / documents
    about = {"documents": documents, "bytes_a_document": size, "pairs": len(corpus.pairs), "pairs_over_0.8": similar}
    return {
        "corpus": about,
        "engines": table,
        "two_threads": alone("threads", path, rounds),
        "kernel": alone("kernels", path),
    }


def command(work: Path) -> dict[str, Any]:
    """`prep dedup --input`, files to clusters.parquet and shards."""
    found = {}
    for workers in (1, 2):
        words = ["prep", "dedup", "--input", str(work / "planted.jsonl"), "--output", str(work / f"out{workers}")]
        start, busy = time.perf_counter(), cpu()
        run = [sys.executable, "-m", "megatron_nlg.cli", *words, "--workers", str(workers)]
        subprocess.run(run, check=True, capture_output=True)
        found[f"{workers}_workers"] = {"wall": time.perf_counter() - start, "cpu": cpu() - busy}
    return found


def boilerplate(work: Path, documents: int) -> dict[str, Any]:
    """Engines on the corpus of templates."""
    corpus = dedup_corpus.boilerplate(documents)
    path = save(work / "boilerplate.jsonl", corpus.texts)
    table = {}
    for name in ("this project", "rensa", "datasketch bulk, xxh32", "datatrove, whole pipeline"):
        alone("engine", name, path, work / "labels.npy")
        table[name] = score(np.load(work / "labels.npy").tolist(), corpus)
    return table


def scaling(work: Path, counts: Sequence[int]) -> list[dict[str, float]]:
    """Shards of the planted kind, and the stage on more and more of them."""
    from data_prep.shards import Document, write_shard

    documents = dedup_corpus.Writer(4321).documents(max(counts))
    folder = work / "shards"
    (folder / "small").mkdir(parents=True)
    for i in range(max(counts) // SHARD):
        shard = [Document(f"s/{i}/{j}", next(documents), "s") for j in range(SHARD)]
        write_shard(folder / f"s-{i:05d}.parquet", shard)
        if i == 0:
            write_shard(folder / "small" / "s.parquet", shard[:SMALL])
    found = []
    for count in counts:
        runs = [alone("scale", folder, count // SHARD) for _ in range(1 if count > 200_000 else 3)]
        found.append(sorted(runs, key=lambda run: run["cpu"])[len(runs) // 2])
    return found


def as_markdown(result: Mapping[str, Any]) -> str:
    """The tables that a reader wants first."""
    race, engines = result["race"], result["race"]["engines"]
    lines = ["| engine | documents/CPU-s | ours is | recall | precision | far pairs |", "|---|---|---|---|---|---|"]
    for name, about in engines.items():
        reads = "read" in name or "whole" in name
        base = engines["this project, JSONL read by polars" if reads else "this project"]["documents_per_cpu_second"]
        own = about["documents_per_cpu_second"]
        accuracy = f"{about['recall']:.3f} | {about['precision']:.3f} | {about['far_pairs']}"
        lines.append(f"| {name} | {own:,.0f} | {base / own:.1f}× | {accuracy} |")
    lines += ["", "| templates share 60 % | largest cluster | wrongly dropped | recall |", "|---|---|---|---|"]
    for name, about in result["boilerplate"].items():
        dropped = f"{about['wrongly_dropped']:.1%}"
        lines.append(f"| {name} | {about['largest_cluster']} | {dropped} | {about['recall']:.3f} |")
    lines += ["", "| documents | documents/CPU-s | peak memory, MB |", "|---|---|---|"]
    for row in result["scaling"]["sizes"]:
        rate = row["documents"] / row["cpu"]
        lines.append(f"| {row['documents']:,} | {rate:,.0f} | {row['peak_bytes'] / 1e6:,.0f} |")
    more, spread = result["scaling"]["bytes_a_document"], result["scaling"]["cost_spread"]
    pair, kernel = race["two_threads"], race["kernel"]
    rates = ", ".join(f"{name} {rate:.0f}" for name, rate in kernel.items())
    return "\n".join(
        [
            *lines,
            "",
            f"Bytes of memory a further document takes: {more:,.0f}. Cost of a document: ±{spread / 2:.1%}.",
            f"Two threads: {pair['ratio']:.2f} × one's wall rate, {pair['one']:,.0f} → {pair['two']:,.0f} documents/s.",
            f"Shingle hashes to signatures, million a CPU-second: {rates}.",
        ]
    )


def peers() -> dict[str, str]:
    found = {}
    for name in ("rensa", "datasketch", "datatrove", "text-dedup", "polars", "pyarrow"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few thousand documents, one round")
    parser.add_argument("--work", help="folder for corpora (a temporary one)")
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        kind, *words = args.part
        parts = {
            "engine": lambda: engine(words[0], Path(words[1]), Path(words[2])),
            "threads": lambda: threads(Path(words[0]), int(words[1])),
            "kernels": lambda: kernels(Path(words[0])),
            "scale": lambda: scale(Path(words[0]), int(words[1])),
        }
        print(json.dumps(parts[kind]()))
        return 0
    from benchmarks.machine import describe  # imports torch, whose memory is not to be measured

    size, rounds, counts = (3000, 1, [20_000, 40_000]) if args.quick else (20_000, 5, [20_000, 100_000, 1_000_000])
    result: dict[str, Any] = {"machine": describe(), "versions": peers(), "quick": args.quick}
    with tempfile.TemporaryDirectory(prefix="dedup-", dir=args.work) as folder:
        work = Path(folder)
        result["race"] = race(work, size, rounds)
        result["command"] = command(work)
        result["boilerplate"] = boilerplate(work, size // 2)
        sizes = scaling(work, counts)
        more = sizes[-1]["documents"] - sizes[-2]["documents"]
        slope = (sizes[-1]["peak_bytes"] - sizes[-2]["peak_bytes"]) / more
        costs = [row["cpu"] / row["documents"] for row in sizes]
        result["scaling"] = {"sizes": sizes, "bytes_a_document": slope, "cost_spread": max(costs) / min(costs) - 1}
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(as_markdown(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
