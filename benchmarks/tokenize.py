"""Text to Megatron's token files: tokens a CPU-second of this project and of what else is in use, in the same run.

    python -m benchmarks.tokenize [--quick]

Documents are drawn from the Python installation's documentation and modules by a seed; all ways use tokenizers trained
on them. Each way runs in processes of its own, --repeats of them, with imports, loading the tokenizer and starting
workers before the clock; the median counts. The figure is that of a process's first pass over the corpus, as a corpus
is tokenized once; a second pass, for which caches of words are warm, is reported beside it. CPU-seconds are those of
the process and all its workers. Writes benchmarks/results/tokenize.json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULT = Path("benchmarks/results/tokenize.json")
SEED = 1234
GIGATOKEN_SHARE, LOOP_RATIO = 0.9, 20.0
SHARDS, MEGABYTES = 4, 240  # shards of the default size, about


def write_corpus(folder: Path, megabytes: float) -> dict[str, Any]:
    """`corpus.jsonl` and the same documents as shards: runs of paragraphs, 3 kB on average."""
    from data_prep.readers.python_corpus import read_documentation, read_modules
    from data_prep.shards import Document, write_shard

    texts = [d.text for read in (read_documentation, read_modules) for d in read("python") if isinstance(d, Document)]
    paragraphs = [text.split("\n\n") for text in texts]
    draw, documents, size = random.Random(SEED), list[Document](), 0
    while size < megabytes * 1e6:
        whole, length, parts = draw.choice(paragraphs), draw.randrange(500, 5500), []
        start = draw.randrange(len(whole))
        while length > 0 and start < len(whole):
            parts.append(whole[start])
            length, start = length - len(whole[start]), start + 1
        text = "\n\n".join(parts)
        if text.strip():
            documents.append(Document(str(len(documents)), text, "python"))
            size += len(text.encode())
    with (folder / "corpus.jsonl").open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps({"text": document.text}) + "\n" for document in documents)
    for i in range(SHARDS):
        write_shard(
            folder / f"s-{i}.parquet", documents[i * len(documents) // SHARDS : (i + 1) * len(documents) // SHARDS]
        )
    beyond = sum(not document.text.isascii() for document in documents)
    return {"documents": len(documents), "text_bytes": size, "documents_beyond_ascii": beyond, "seed": SEED}


def train(folder: Path, quick: bool) -> None:
    from data_prep.tokenizer import BytePairTokenizer, SentencePieceTokenizer

    texts = [json.loads(line)["text"] for line in (folder / "corpus.jsonl").open(encoding="utf-8")]
    BytePairTokenizer.train(texts[: 1000 if quick else 6000], 8000 if quick else 50257).save(folder / "bpe")
    SentencePieceTokenizer.train(texts[: 300 if quick else 1500], 2000 if quick else 16000, "bpe").save(folder / "spm")


# ---- the ways: each prepares, and returns a function that is timed and returns how many tokens it made

Run = Callable[[], int]


def ours(folder: Path, workers: int, kind: str = "bpe") -> Run:
    from data_prep.execution.local import Local
    from data_prep.jobs import Job
    from data_prep.stages.tokenize import join_unit, tokenize_unit
    from data_prep.tokenizer import load_tokenizer

    tokenizer, out = load_tokenizer(folder / kind), folder / f"ours-{kind}"
    meta = {"vocab_size": tokenizer.vocab_size, "identity": tokenizer.identity}
    job = Job(out, Local(workers))
    about = (str(folder / kind), tokenizer.identity, True, kind == "bpe")

    def run(work: Path, shards: list[str]) -> int:
        shutil.rmtree(work, ignore_errors=True)  # as the peers write over what they wrote before
        tasks = {f"{shard}-{i}": (folder / f"{shard}.parquet", *about) for i, shard in enumerate(shards)}
        job.map_units("", work, tokenize_unit, tasks)
        return int(job.map_units("", work, join_unit, {"all": (list(tasks), meta, True)})["all"]["tokens"])

    _write_start(folder)
    run(out / "warm", ["start"] * 4 * workers)  # each worker has loaded the tokenizer
    return lambda: run(out / "tokens", [f"s-{i}" for i in range(SHARDS)])


def _write_start(folder: Path) -> None:
    from data_prep.shards import Document, write_shard

    write_shard(folder / "start.parquet", [Document("0", "to start with, é", "python")])


def _started_gigatoken(folder: Path) -> Any:
    """gigatoken after a first document, as all ways start."""
    import gigatoken

    encoder = gigatoken.Tokenizer(folder / "bpe" / "tokenizer.json")
    _write_start(folder)
    encoder.encode_files(gigatoken.ParquetFileSource([folder / "start.parquet"], column="text"), parallel=False)
    return encoder


def gigatoken_files(folder: Path, workers: int, form: str) -> Run:
    """gigatoken's own way, files to one array in memory; nothing is written."""
    import gigatoken

    encoder = _started_gigatoken(folder)
    paths = {"jsonl": [folder / "corpus.jsonl"], "parquet": [folder / f"s-{i}.parquet" for i in range(SHARDS)]}[form]

    def run() -> int:
        if form == "jsonl":
            source = gigatoken.JsonlFileSource(paths, field="text")
        else:
            source = gigatoken.ParquetFileSource(paths, column="text")
        return len(encoder.encode_files(source, parallel=workers > 1).layout.content)

    return run


def gigatoken_written(folder: Path, workers: int, form: str) -> Run:
    """The same with Megatron-core's builder behind it, given one array (what newer versions call add_documents)."""
    import awkward as ak
    import gigatoken
    import numpy as np
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

    encoder = _started_gigatoken(folder)
    ak.num(ak.flatten(ak.Array([[1]]))[None], axis=1)  # what it loads late

    def run() -> int:
        paths = [folder / f"s-{i}.parquet" for i in range(SHARDS)]
        source = gigatoken.ParquetFileSource(paths, column="text")
        found = encoder.encode_files(source, parallel=workers > 1)
        builder = IndexedDatasetBuilder(str(folder / "giga.bin"), dtype=np.uint16)
        ids, ends = np.asarray(ak.flatten(found)), np.cumsum(np.asarray(ak.num(found, axis=1)))
        builder.data_file.write(np.insert(ids.astype(np.uint16), ends, 0).tobytes())  # 0 ends a document
        builder.sequence_lengths = (np.diff(ends, prepend=0) + 1).tolist()
        builder.document_indices = list(range(len(found) + 1))
        builder.finalize(str(folder / "giga.idx"))
        return sum(builder.sequence_lengths)

    return run


def hugging_face(folder: Path, workers: int, form: str) -> Run:
    """`encode_batch_fast` in batches on its own threads; one array written a batch."""
    import numpy as np
    from tokenizers import Tokenizer

    encoder = Tokenizer.from_file(str(folder / "bpe" / "tokenizer.json"))

    def run() -> int:
        texts = [json.loads(line)["text"] for line in (folder / "corpus.jsonl").open(encoding="utf-8")]
        tokens = 0
        with (folder / "hf.bin").open("wb") as stream:
            for start in range(0, len(texts), 1000):
                parts = [np.array(e.ids, np.uint16) for e in encoder.encode_batch_fast(texts[start : start + 1000])]
                stream.write(np.concatenate(parts).tobytes())
                tokens += sum(map(len, parts))
        return tokens

    return run


_ENCODE: Callable[[str], list[int]] | None = None


def _start(folder: Path, kind: str) -> None:
    global _ENCODE  # noqa: PLW0603 (a worker's own)
    if kind == "spm":
        import sentencepiece

        _ENCODE = sentencepiece.SentencePieceProcessor(str(folder / "spm" / "spm.model")).encode
    else:
        from tokenizers import Tokenizer

        encoder = Tokenizer.from_file(str(folder / "bpe" / "tokenizer.json"))
        _ENCODE = lambda text: encoder.encode(text).ids  # noqa: E731


def _line(line: str) -> tuple[list[int], list[int], int]:
    assert _ENCODE
    ids = _ENCODE(json.loads(line)["text"])
    ids.append(0)
    return ids, [len(ids)], len(line)


def preprocess_data(folder: Path, workers: int, kind: str) -> Run:
    """The loop of Megatron-LM's tools/preprocess_data.py: a pool over lines, lists to add_document."""
    import numpy as np
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

    pool = multiprocessing.get_context("fork").Pool(workers, initializer=_start, initargs=(folder, kind))
    pool.map(_line, ['{"text": "to start with"}'] * 8 * workers, 1)

    def run() -> int:
        builder, tokens = IndexedDatasetBuilder(str(folder / "loop.bin"), dtype=np.uint16), 0
        with (folder / "corpus.jsonl").open(encoding="utf-8") as lines:
            for ids, lengths, _ in pool.imap(_line, lines, 32):
                builder.add_document(ids, lengths)
                tokens += len(ids)
        builder.finalize(str(folder / "loop.idx"))
        return tokens

    return run


WAYS: dict[str, tuple[Callable[..., Run], str, tuple[int, ...], bool]] = {
    "ours, BPE, shards to .bin/.idx": (ours, "bpe", (1, 2), False),
    "gigatoken, JSONL to an array": (gigatoken_files, "jsonl", (1, 2), False),
    "gigatoken, Parquet to an array": (gigatoken_files, "parquet", (1, 2), False),
    "gigatoken, Parquet to .bin/.idx by Megatron-core's builder": (gigatoken_written, "parquet", (1,), False),
    "Hugging Face encode_batch_fast, JSONL to .bin": (hugging_face, "bpe", (1,), True),
    "preprocess_data loop, Hugging Face, JSONL to .bin/.idx": (preprocess_data, "bpe", (1, 2), True),
    "ours, sentencepiece, shards to .bin/.idx": (ours, "spm", (1, 2), True),
    "preprocess_data loop, sentencepiece, JSONL to .bin/.idx": (preprocess_data, "spm", (1, 2), True),
}
"""How, with which tokenizer or input, with how many workers, and whether it takes so long that once is enough."""


def _cpu() -> float:
    """CPU-seconds of this process and all below it so far."""
    import psutil

    own = psutil.Process()
    return sum(sum(p.cpu_times()[:2]) for p in [own, *own.children(recursive=True)])


def _measure(way: str, folder: Path, workers: int, answers: Any) -> None:
    warnings.simplefilter("ignore")  # Megatron-core's, about what it falls back to
    os.environ["RAYON_NUM_THREADS"] = str(workers)
    os.environ["TOKENIZERS_PARALLELISM"] = str(workers > 1).lower()
    how, what, _, slow = WAYS[way]
    run, rows = how(folder, workers, what), []
    for _ in range(1 if slow else 2):
        cpu, wall = _cpu(), time.perf_counter()
        tokens = run()
        rows.append((tokens, time.perf_counter() - wall, _cpu() - cpu))
    answers.put(rows)
    sys.stdout.flush()
    answers.close()
    answers.join_thread()
    os._exit(0)  # pools and all


def measure(way: str, folder: Path, workers: int, repeats: int) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    passes: list[list[tuple[int, float, float]]] = []
    for _ in range(repeats):
        answers = context.Queue()
        process = context.Process(target=_measure, args=(way, folder, workers, answers))
        process.start()
        passes.append(answers.get(timeout=1800))
        process.join()
    tokens = passes[0][0][0]
    row: dict[str, Any] = {"way": way, "workers": workers, "tokens": tokens, "repeats": repeats}
    for number, name in enumerate(("", "second_pass_")[: len(passes[0])]):
        wall, cpu = (statistics.median(rows[number][i] for rows in passes) for i in (1, 2))
        row |= {f"{name}seconds": round(wall, 3), f"{name}cpu_seconds": round(cpu, 3)}
        row[f"{name}tokens_per_cpu_second"] = round(tokens / cpu)
        row[f"{name}tokens_per_second"] = round(tokens / wall)
    return row


def compare(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The ratios that the project has set itself."""
    names = list(WAYS)
    found = {(row["way"], row["workers"]): row for row in rows}

    def ratio(way: int, peer: int, key: str = "tokens_per_cpu_second") -> float:
        return round(float(found[names[way], 1][key] / found[names[peer], 1][key]), 2)

    ratios = {
        "of_gigatoken_jsonl_to_array": ratio(0, 1),
        "of_gigatoken_parquet_to_array": ratio(0, 2),
        "of_gigatoken_parquet_to_bin_idx": ratio(0, 3),
        "of_gigatoken_parquet_to_bin_idx_second_pass": ratio(0, 3, "second_pass_tokens_per_cpu_second"),
        "of_hugging_face_batches": ratio(0, 4),
        "of_preprocess_data_loop": ratio(0, 5),
        "sentencepiece_of_preprocess_data_loop": ratio(6, 7),
    }
    two, one = (found[names[0], workers]["tokens_per_second"] for workers in (2, 1))
    # The same shards in, the same bytes out (`same_bytes_as_gigatoken`); to an array it need not write any.
    targets = {"of_gigatoken_parquet_to_bin_idx": GIGATOKEN_SHARE, "of_preprocess_data_loop": LOOP_RATIO}
    reached = all(ratios[key] >= least for key, least in targets.items())
    return ratios | {"two_workers_of_one_wall": round(two / one, 2), "targets": targets, "reached": reached}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 MB and small vocabularies: that it works, no figures")
    parser.add_argument("--repeats", type=int, default=5, help="of the fast ways; the slow ones run once")
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    from benchmarks.machine import describe

    machine = describe()
    with tempfile.TemporaryDirectory(prefix="tokenize-") as temporary:
        folder = Path(temporary)
        corpus = write_corpus(folder, 3 if args.quick else MEGABYTES)
        train(folder, args.quick)
        rows = []
        for way, (_, _, counts, slow) in WAYS.items():
            for workers in counts:
                rows.append(measure(way, folder, workers, 1 if slow or args.quick else args.repeats))
                print(json.dumps(rows[-1]), flush=True)
        made = folder / "ours-bpe" / "tokens" / "all"
        same = {
            end: made.with_suffix(end).read_bytes() == (folder / f"giga{end}").read_bytes() for end in (".bin", ".idx")
        }
    result = {
        "machine": machine,
        "corpus": corpus,
        "quick": args.quick,
        "same_bytes_as_gigatoken": all(same.values()),
        "rows": rows,
        "ratios": compare(rows),
    }
    print(json.dumps(result["ratios"]))
    args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
