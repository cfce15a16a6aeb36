"""Raw JSON lines to Megatron's token files: this project's `prep run` and datatrove's pipeline of the same stages.

    python -m benchmarks.prep_pipeline [--documents 20000] [--rounds 3]

The corpus is that of benchmarks/dedup.py: planted near-duplicates from a seed. Both repair text with ftfy, apply
Gopher's quality and repetition limits, find near-duplicates (128 min-hashes, 16 × 8), and tokenize by the same BPE.
Each run is a process of its own, in turn, with one worker; CPU-seconds are those of it and its children, start-up
included. datatrove's words are made by str.split, since its own (spaCy) are several times slower. Ours also runs with
two workers. Writes benchmarks/results/prep_pipeline.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import dedup_corpus

RESULT = Path("benchmarks/results/prep_pipeline.json")
VOCABULARY = 8000
RECIPE = """
out: out
sources: [{{name: documents, paths: ["{corpus}"]}}]
clean: {{min_characters: 200}}
filter: {{min_terminal_punctuation: null, max_curly_braces: null, max_lorem_ipsum: null}}
tokenizer: {{load: "{tokenizer}"}}
shard_bytes: 16000000
"""


def datatrove(corpus: Path, tokenizer: Path, out: Path) -> None:
    """Its stages, one after the other, one worker each."""
    import xxhash
    from datatrove.executor.local import LocalPipelineExecutor
    from datatrove.pipeline import dedup, filters
    from datatrove.pipeline.dedup import minhash
    from datatrove.pipeline.filters import gopher_quality_filter, gopher_repetition_filter
    from datatrove.pipeline.formatters import FTFYFormatter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens.megatron_tokenizer import MegatronDocumentTokenizer
    from datatrove.pipeline.writers import JsonlWriter
    from datatrove.utils.hashing import HashConfig

    class Split:
        def word_tokenize(self, text: str) -> list[str]:
            return text.split()

    minhash.load_word_tokenizer = lambda _: Split()
    for module in (gopher_quality_filter, gopher_repetition_filter):
        module.split_into_words = lambda text, _: text.split()
    config = minhash.MinhashConfig(5, 16, 8, hash_config=HashConfig(precision=64))
    sign = dedup.MinhashDedupSignature(f"{out}/sig", config=config)
    sign._hash_func = lambda gram: xxhash.xxh64_intdigest(gram.encode())  # its own fails with xxhash 4
    (out / "in").mkdir(parents=True)
    os.link(corpus, out / "in" / "0.jsonl")
    stages = [
        (
            [
                JsonlReader(f"{out}/in"),
                FTFYFormatter(),
                filters.GopherRepetitionFilter(),
                filters.GopherQualityFilter(),
                JsonlWriter(f"{out}/clean", compression=None),
            ],
            1,
        ),
        ([JsonlReader(f"{out}/clean"), sign], 1),
        ([dedup.MinhashDedupBuckets(f"{out}/sig", f"{out}/buckets", config=config)], 16),
        ([dedup.MinhashDedupCluster(f"{out}/buckets", f"{out}/gone", config=config)], 1),
        (
            [
                JsonlReader(f"{out}/clean"),
                dedup.MinhashDedupFilter(f"{out}/gone"),
                MegatronDocumentTokenizer(f"{out}/tokens", "all", str(tokenizer / "tokenizer.json")),
            ],
            1,
        ),
    ]
    for i, (pipeline, tasks) in enumerate(stages):
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=1, logging_dir=f"{out}/log{i}").run()


def run(words: list[str]) -> dict[str, Any]:
    """Seconds and CPU-seconds of a process and its children, and what it says to stderr."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": time.monotonic() - start, "cpu_seconds": cpu, "said": done.stderr}


def ours(recipe: Path, out: Path, workers: int) -> dict[str, Any]:
    words = ["-m", "megatron_nlg.cli", "prep", "run", str(recipe), "--out", str(out), f"processes={workers}"]
    found = run(words)
    stages = re.findall(r"^(\w+) .*\[([\d.]+) s\]$", found.pop("said"), re.MULTILINE)
    tokens = json.loads((out / "stats.json").read_text())["tokens"]["documents"]
    return {
        **found,
        "stages": {n: float(s) for n, s in stages},
        "kept": tokens["documents"],
        "tokens": tokens["tokens"],
    }


def theirs(corpus: Path, tokenizer: Path, out: Path) -> dict[str, Any]:
    from data_prep.indexed import check_indexed

    found = run(["-m", "benchmarks.prep_pipeline", "--datatrove", str(corpus), str(tokenizer), str(out)])
    del found["said"]
    info = [check_indexed(path.with_suffix("")) for path in (out / "tokens").glob("*.idx")]
    return {**found, "kept": sum(i.documents for i in info), "tokens": sum(i.tokens for i in info)}


def median(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return sorted(rows, key=lambda row: row["cpu_seconds"])[len(rows) // 2]


def main() -> int:
    from benchmarks.machine import describe
    from data_prep.tokenizer import BytePairTokenizer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--datatrove", nargs=3, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.datatrove:
        datatrove(*args.datatrove)
        return 0
    machine, rows = describe(), dict[str, list[dict[str, Any]]]()
    with tempfile.TemporaryDirectory(prefix="prep-pipeline-") as name:
        work = Path(name)
        corpus, tokenizer, recipe = work / "corpus.jsonl", work / "tokenizer", work / "recipe.yaml"
        texts = dedup_corpus.planted(args.documents).texts
        dedup_corpus.write_jsonl(corpus, texts)
        BytePairTokenizer.train(texts[:2000], VOCABULARY).save(tokenizer)
        recipe.write_text(RECIPE.format(corpus=corpus, tokenizer=tokenizer))
        size = sum(len(text.encode()) for text in texts)
        for round_ in range(args.rounds):
            for workers in (1, 2):
                out = work / f"ours-{workers}-{round_}"
                rows.setdefault(f"this project, {workers} worker{'s' * (workers > 1)}", []).append(
                    ours(recipe, out, workers)
                )
            rows.setdefault("datatrove, 1 worker", []).append(theirs(corpus, tokenizer, work / f"theirs-{round_}"))
            print({name: round(found[-1]["cpu_seconds"], 1) for name, found in rows.items()}, flush=True)
    best = {name: median(found) for name, found in rows.items()}
    for found in best.values():
        found["documents_per_cpu_second"] = round(args.documents / found["cpu_seconds"])
        found["megabytes_per_cpu_second"] = round(size / 1e6 / found["cpu_seconds"], 2)
        found |= {key: round(found[key], 2) for key in ("seconds", "cpu_seconds")}
    one, peer = best["this project, 1 worker"], best["datatrove, 1 worker"]
    walls = [statistics.median(row["seconds"] for row in found) for found in list(rows.values())[:2]]
    ratios = {
        "ours over datatrove, documents per CPU-second": round(peer["cpu_seconds"] / one["cpu_seconds"], 1),
        "two workers over one, wall": round(walls[0] / walls[1], 2),
    }
    result = {"machine": machine, "documents": args.documents, "bytes": size, "rows": best, "ratios": ratios}
    args.result.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(ratios))
    return 0


if __name__ == "__main__":
    sys.exit(main())
