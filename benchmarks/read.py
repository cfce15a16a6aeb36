"""Megabytes a CPU-second of reading, cleaning and filtering: what a core does with text before deduplication.

    python -m benchmarks.read [--out FILE] [--quick]

The corpus is the documentation of the Python installation, repeated in seeded order. JSON lines are read as the stage
does, into Arrow batches, and by the exact line-by-line way that takes over where a block is not plain; peers are
json.loads and orjson line by line, as pipelines with one Python object a document do it.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.machine import describe
from data_prep.clean import clean_texts, drop_reasons
from data_prep.heuristics import failing
from data_prep.readers.base import InputFile
from data_prep.readers.jsonl import read_jsonl, read_lines
from data_prep.readers.python_corpus import read_documentation
from data_prep.recipe import Clean, Filter, Source
from data_prep.shards import Document

SOURCE = Source(name="s", paths=("x",))


def texts(size: int) -> list[str]:
    """About `size` bytes of documents."""
    known = [d.text for d in read_documentation("d") if isinstance(d, Document)]
    draw, found, total = random.Random(1), [], 0
    while total < size:
        found.append(draw.choice(known))
        total += len(found[-1])
    return found


def rows(kind: str, found: list[str]) -> Iterator[dict[str, Any]]:
    for i, text in enumerate(found):
        row: dict[str, Any] = {"text": text}
        if kind == "attributes":
            row |= {
                "url": f"https://example.org/{i}",
                "meta": {"set": "web"},
                "timestamp": "2026-01-02T03:04:05Z",
                "n": i,
            }
        yield row


def rate(size: int, work: Callable[[], Any], repeats: int) -> float:
    """The best of some runs, in MB a CPU-second: other work on the machine only ever takes away."""
    best = 0.0
    for _ in range(repeats):
        start = time.process_time()
        work()
        best = max(best, size / (time.process_time() - start) / 1e6)
    return round(best, 1)


def read_rates(folder: Path, found: list[str], repeats: int) -> dict[str, float]:
    def read(path: Path) -> int:
        return sum(part.documents.num_rows for part in read_jsonl(InputFile(str(path), path.name, "jsonl"), SOURCE))

    out = {}
    for kind in ("text", "attributes"):
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(kind, found)).encode()
        packed = {
            "jsonl": data,
            "jsonl.gz": gzip.compress(data, 6),
            "jsonl.zst": pa.compress(data, "zstd", asbytes=True),
        }
        for ending, content in packed.items():
            path = folder / f"{kind}.{ending}"
            path.write_bytes(content)
            assert read(path) == len(found)
            out[f"{kind}.{ending}"] = rate(len(data), lambda path=path: read(path), repeats)
        out[f"{kind}.jsonl, exact way"] = rate(len(data), lambda data=data: read_lines(data, "f", 1, SOURCE), repeats)
        out[f"{kind}.jsonl, json.loads"] = rate(
            len(data), lambda data=data: [*map(json.loads, data.splitlines())], repeats
        )
        try:
            import orjson

            out[f"{kind}.jsonl, orjson"] = rate(
                len(data), lambda data=data: [*map(orjson.loads, data.splitlines())], repeats
            )
        except ImportError:
            print("orjson is not installed and not measured")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/read.json"))
    parser.add_argument("--quick", action="store_true", help="8 MB instead of 64, once instead of five times")
    args = parser.parse_args()
    repeats = 1 if args.quick else 5
    found = texts(8_000_000 if args.quick else 64_000_000)
    with tempfile.TemporaryDirectory() as folder:
        results = read_rates(Path(folder), found, repeats)
    batches = [pa.array(found[i : i + 2000], pa.large_string()) for i in range(0, len(found), 2000)]
    size = sum(len(text.encode()) for text in found)
    for name, work in {
        "clean, default": lambda batch: clean_texts(batch, Clean()),
        "clean, no ftfy": lambda batch: clean_texts(batch, Clean(ftfy=False)),
        "clean, length rules": lambda batch: list(drop_reasons(batch, Clean())),
        "filter, all rules": lambda batch: list(failing(batch, Filter())),
    }.items():
        results[name] = rate(size, lambda work=work: [work(batch) for batch in batches], min(repeats, 3))
    for name, value in results.items():
        print(f"{name:<32} {value:>8} MB/CPU-s")
    document = {"machine": describe(), "documents": len(found), "bytes": size, "megabytes_per_cpu_second": results}
    args.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
