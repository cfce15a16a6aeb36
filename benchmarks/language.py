"""Language identification: pycld2, lingua and a fastText model on sentences in 17 languages, beside each other.

    python -m benchmarks.language [--out FILE] [--quick]

The sentences are those of data_prep/example/languages.py; `document` is all of a language's, `sentence` each by
itself, and `first words` the first four words of each. The published fastText models (lid.176.bin, GlotLID) are files
that must be downloaded, and the former's licence is CC BY-SA 3.0; without a download only the library can be measured:
a supervised fastText model is trained here on four sentences of each language and tried on the fifth, which says what
the library costs, and nothing about how good the published models are.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import metadata, version
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from data_prep.example.languages import SENTENCES

Detect = Callable[[str], str]
UPKEEP = {
    "pycld2": "Apache-2.0; Google's CLD2, unchanged for years; its binding is kept building",
    "lingua-language-detector": "Apache-2.0; Rust, released once a year or more often",
    "fasttext-wheel": "MIT; archived by Meta in 2024, wheels of its last release; models apart, CC BY-SA 3.0",
}


def samples() -> dict[str, list[tuple[str, str]]]:
    """Kind -> (language, text)."""
    every = [(code, text) for code, texts in SENTENCES.items() for text in texts]

    def start(code: str, text: str) -> str:
        return text[:8] if code in ("zh", "ja") else " ".join(text.split()[:4])

    return {
        "document": [(code, " ".join(texts)) for code, texts in SENTENCES.items()],
        "sentence": every,
        "first words": [(code, start(code, text)) for code, text in every],
    }


def pycld2_detector() -> Detect:
    from data_prep.language import detect

    return lambda text: detect(text).code


def lingua_detector(quick: bool) -> Detect:
    from lingua import LanguageDetectorBuilder

    builder = LanguageDetectorBuilder.from_all_languages()
    detector = (builder.with_low_accuracy_mode() if quick else builder).build()

    def detect(text: str) -> str:
        found = detector.detect_language_of(text)
        return "un" if found is None else found.iso_code_639_1.name.lower()

    return detect


def fasttext_detector() -> Detect:
    import fasttext

    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        for code, texts in SENTENCES.items():
            file.writelines(f"__label__{code} {text}\n" for text in texts[:4])
        file.flush()
        model = fasttext.train_supervised(
            file.name, epoch=200, lr=0.5, dim=16, minn=1, maxn=4, thread=1, verbose=0, bucket=100_000
        )
    predict = model.f.predict  # the Python wrapper does not work with NumPy 2
    return lambda text: str(predict(text.replace("\n", " ") + "\n", 1, 0.0, "strict")[0][1]).removeprefix("__label__")


def measure(detect: Detect, cases: dict[str, list[tuple[str, str]]], seconds: float) -> dict[str, Any]:
    """Share of right answers by kind, and megabytes a CPU-second on documents of about 3 kB."""
    result: dict[str, Any] = {}
    for kind, items in cases.items():
        wrong = [code for code, text in items if detect(text) != code]
        result[kind] = {"cases": len(items), "accuracy": round(1 - len(wrong) / len(items), 3)}
        result[kind]["wrong"] = sorted(set(wrong))
    documents = [(text * 40)[:2000] for _, text in cases["document"]]
    start, size = time.process_time(), 0
    while time.process_time() - start < seconds:
        for text in documents:
            detect(text)
            size += len(text.encode())
    result["megabytes_per_cpu_second"] = round(size / (time.process_time() - start) / 1e6, 2)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/language.json"))
    parser.add_argument("--quick", action="store_true", help="lingua with its small models, less time each")
    args = parser.parse_args()
    cases, seconds = samples(), 0.5 if args.quick else 3.0
    last = {kind: items for kind, items in cases.items() if kind == "document"}
    last["sentence"] = [(code, texts[4]) for code, texts in SENTENCES.items()]
    results = {
        "pycld2": measure(pycld2_detector(), cases, seconds),
        "lingua-language-detector": measure(lingua_detector(args.quick), cases, seconds),
        "fasttext-wheel": measure(fasttext_detector(), last, seconds),
    }
    for name, result in results.items():
        result |= {"version": version(name), "licence": metadata(name).get("License"), "upkeep": UPKEEP[name]}
        kinds = [f"{kind} {result[kind]['accuracy']:.1%}" for kind in cases if kind in result]
        print(f"{name:<26} {result['megabytes_per_cpu_second']:>8} MB/CPU-s  {', '.join(kinds)}")
    results["fasttext-wheel"]["note"] = "trained here on four sentences a language; documents hold them: speed counts"
    args.out.write_text(json.dumps({"machine": describe(), "results": results}, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
