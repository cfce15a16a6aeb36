"""Evaluation sets in the files in which they were published, as rows with the fields that their hub versions have.

Raises InputError for what is missing or broken, naming the file, the line, the value and the mend.
"""

from __future__ import annotations

import csv
import gzip
import json
import lzma
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_nlg.config.errors import InputError

Row = dict[str, Any]
UNPACK: dict[str, Any] = {".xz": lzma.open, ".gz": gzip.open}
TRUTH = {False: 0, True: 1, "false": 0, "true": 1}
"""SuperGLUE's labels, as JSON has them and as its conversions spell them."""


@dataclass(frozen=True)
class Line:
    """A row as it was read, and where it stands."""

    where: str
    row: Mapping[str, Any]

    def text(self, name: str) -> str:
        """A field that must be a text."""
        value = self._get(name)
        if not isinstance(value, str):
            raise InputError(f"{self.where}: {name} is {value!r}; a text is expected")
        return value

    def texts(self, name: str, count: int) -> list[str]:
        """A field that must be a list of so many texts."""
        value = self._get(name)
        if not isinstance(value, list) or len(value) != count or not all(isinstance(each, str) for each in value):
            raise InputError(f"{self.where}: {name} is {value!r}; a list of {count} texts is expected")
        return value

    def number(self, name: str) -> int:
        """A field that must be a whole number."""
        try:
            return int(self._get(name))
        except (TypeError, ValueError):
            raise InputError(f"{self.where}: {name} is {self.row[name]!r}; a whole number is expected") from None

    def label(self, name: str, labels: Mapping[Any, int]) -> int:
        """A field that must be one of `labels`."""
        return label_of(self._get(name), labels, f"{self.where}: {name}")

    def _get(self, name: str) -> Any:
        if name not in self.row:
            raise InputError(f"{self.where}: has no {name!r}; its fields are {', '.join(map(repr, self.row))}")
        return self.row[name]


def label_of(value: Any, labels: Mapping[Any, int], where: str) -> int:
    """The class that a label names. Raises InputError for an unknown one."""
    try:
        return labels[value]
    except (KeyError, TypeError):
        known = ", ".join(map(repr, labels))
        raise InputError(f"{where}: unknown label {value!r}; the labels are {known}") from None


# ---- kinds of files ------------------------------------------------------------------------------------------------


def read_lines(path: Path) -> list[str]:
    """Lines of a UTF-8 file, unpacked by its ending (.xz, .gz)."""
    try:
        with UNPACK.get(path.suffix, open)(path, "rt", encoding="utf-8", newline="") as file:
            lines = str(file.read()).split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 at byte {error.start}; fetch it again, or convert it") from None
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: its compression is damaged ({error}); fetch it again") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; name a folder with the published file") from None
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def json_lines(path: Path) -> Iterator[Line]:
    """One JSON object a line."""
    for number, line in enumerate(read_lines(path), 1):
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{where}: broken JSON ({error}); mend the line, or fetch the file again") from None
        if not isinstance(row, dict):
            raise InputError(f"{where}: is not a JSON object; mend the line, or fetch the file again")
        yield Line(where, row)


def table(path: Path) -> Iterator[Line]:
    """Tab-separated values, unquoted, under a line of names."""
    rows = csv.reader(read_lines(path), delimiter="\t", quoting=csv.QUOTE_NONE)
    names = next(rows, [])
    for number, cells in enumerate(rows, 2):
        where = f"{path}, line {number}"
        if len(cells) != len(names):
            raise InputError(
                f"{where}: has {len(cells)} columns, and the head {len(names)}; mend the line, or fetch the file again"
            )
        yield Line(where, dict(zip(names, cells, strict=True)))


def labelled(path: Path, labels: Path, classes: Mapping[str, int]) -> Iterator[tuple[Line, int]]:
    """JSON lines whose labels stand in a file of their own, one a line (PIQA's valid.jsonl and valid-labels.lst)."""
    rows, marks = list(json_lines(path)), read_lines(labels)
    if len(rows) != len(marks):
        raise InputError(f"{labels}: has {len(marks)} labels, and {path.name} {len(rows)} rows; fetch both again")
    for number, (line, mark) in enumerate(zip(rows, marks, strict=True), 1):
        yield line, label_of(mark, classes, f"{labels}, line {number}")


# ---- sets ----------------------------------------------------------------------------------------------------------


def lambada(path: Path) -> list[Row]:
    """OpenAI's lambada_test.jsonl: {"text"}."""
    rows = []
    for line in json_lines(path):
        text = line.text("text")
        if " " not in text:
            raise InputError(f"{line.where}: text {text!r} has no last word to predict; fetch the file again")
        rows.append({"text": text})
    return rows


def race(folder: Path) -> list[Row]:
    """RACE's folder of passages, each a JSON file: {"article", "questions", "options", "answers"}."""
    paths = sorted(folder.glob("*.txt"), key=lambda path: (len(path.name), path.name))
    if not paths:
        raise InputError(f"{folder}: holds no .txt passages; name the published folder")
    rows = []
    for path in paths:
        for line in json_lines(path):
            questions, answers, options = (line.row.get(name) for name in ("questions", "answers", "options"))
            if not (isinstance(questions, list) and isinstance(answers, list) and isinstance(options, list)):
                raise InputError(f"{line.where}: lists of questions, options and answers are expected")
            if not len(questions) == len(answers) == len(options) > 0:
                raise InputError(f"{line.where}: as many questions as options and answers are expected")
            problems = []
            for number, (question, answer) in enumerate(zip(questions, answers, strict=True), 1):
                label_of(answer, {letter: place for place, letter in enumerate("ABCD")}, f"{line.where}: {number}.")
                choices = Line(f"{line.where}: {number}.", {"options": options[number - 1]}).texts("options", 4)
                problems.append({"question": question, "answer": answer, "options": choices})
            rows.append({"article": line.text("article"), "problems": problems})
    return rows


def boolq(path: Path) -> list[Row]:
    """SuperGLUE's val.jsonl ("label") or the first publication's dev.jsonl ("answer")."""
    rows = []
    for line in json_lines(path):
        name = "label" if "label" in line.row else "answer"
        label = line.label(name, TRUTH)
        rows.append({"passage": line.text("passage"), "question": line.text("question"), "label": label})
    return rows


def piqa(path: Path) -> list[Row]:
    """valid.jsonl: {"goal", "sol1", "sol2"}, beside it valid-labels.lst."""
    marks = path.with_name(path.name.split(".")[0] + "-labels.lst")
    return [
        {name: line.text(name) for name in ("goal", "sol1", "sol2")} | {"label": label}
        for line, label in labelled(path, marks, {"0": 0, "1": 1})
    ]


def hellaswag(path: Path) -> list[Row]:
    """hellaswag_val.jsonl: {"activity_label", "ctx_a", "ctx_b", "endings", "label"}."""
    return [
        {name: line.text(name) for name in ("activity_label", "ctx_a", "ctx_b")}
        | {"endings": line.texts("endings", 4), "label": line.label("label", {place: place for place in range(4)})}
        for line in json_lines(path)
    ]


def winogrande(path: Path) -> list[Row]:
    """dev.jsonl: {"sentence", "option1", "option2", "answer"}."""
    rows = []
    for line in json_lines(path):
        line.label("answer", {"1": 0, "2": 1})
        row = {name: line.text(name) for name in ("sentence", "option1", "option2", "answer")}
        if row["sentence"].count("_") != 1:
            raise InputError(f"{line.where}: sentence {row['sentence']!r} has no single gap `_`; fetch the file again")
        rows.append(row)
    return rows


def anli(path: Path) -> list[Row]:
    """R2/test.jsonl: {"context", "hypothesis", "label": e, n or c}."""
    return [
        {
            "premise": line.text("context"),
            "hypothesis": line.text("hypothesis"),
            "label": line.label("label", {"e": 0, "n": 1, "c": 2}),
        }
        for line in json_lines(path)
    ]


def hans(path: Path) -> list[Row]:
    """heuristics_evaluation_set.txt, tab-separated, with or without its parses."""
    return [
        {
            "premise": line.text("sentence1"),
            "hypothesis": line.text("sentence2"),
            "label": line.label("gold_label", {"entailment": 0, "non-entailment": 1}),
            **{name: line.text(name) for name in ("heuristic", "subcase", "template")},
        }
        for line in table(path)
    ]


def wic(path: Path) -> list[Row]:
    """SuperGLUE's val.jsonl: {"sentence1", "sentence2", "word", "start1", "end1", "start2", "end2", "label"}."""
    return [
        {name: line.text(name) for name in ("sentence1", "sentence2", "word")}
        | {name: line.number(name) for name in ("start1", "end1", "start2", "end2")}
        | {"label": line.label("label", TRUTH)}
        for line in json_lines(path)
    ]


# ---- where they are ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Published:
    """How a set is found in a folder of sets, and read. Patterns are tried in their order."""

    read: Callable[[Path], list[Row]]
    evaluated: tuple[str, ...]
    examples: tuple[str, ...] = ()
    """Where few-shot examples come from."""


SETS = {
    "lambada": Published(lambada, ("lambada/lambada_test*.jsonl*",), ("lambada/lambada_dev*.jsonl*",)),
    "race": Published(race, ("race/test/high", "RACE/test/high"), ("race/train/high", "RACE/train/high")),
    "boolq": Published(
        boolq, ("boolq/val.jsonl*", "BoolQ/val.jsonl*", "boolq/dev.jsonl*"), ("[bB]ool[qQ]/train.jsonl*",)
    ),
    "piqa": Published(piqa, ("piqa/valid.jsonl*",), ("piqa/train.jsonl*",)),
    "hellaswag": Published(hellaswag, ("hellaswag/hellaswag_val*.jsonl*",), ("hellaswag/hellaswag_train*.jsonl*",)),
    "winogrande": Published(
        winogrande,
        ("winogrande*/dev.jsonl*",),
        tuple(f"winogrande*/train_{s}.jsonl*" for s in ("xl", "l", "m", "s", "xs")),
    ),
    "anli": Published(anli, ("anli*/R2/test.jsonl*",), ("anli*/R2/train.jsonl*",)),
    "hans": Published(
        hans,
        ("hans/heuristics_evaluation_set.txt*", "hans/*evaluation*.tsv*", "hans/*.tsv*"),
        ("hans/heuristics_train_set.txt*",),
    ),
    "wic": Published(wic, ("wic/val.jsonl*", "WiC/val.jsonl*"), ("wic/train.jsonl*", "WiC/train.jsonl*")),
}


def find(folder: Path, patterns: tuple[str, ...]) -> Path | None:
    """The first path in a folder that matches the first pattern that any matches."""
    for pattern in patterns:
        if paths := sorted(folder.glob(pattern)):
            return paths[0]
    return None


def read_set(name: str, folder: Path) -> dict[str, list[Row]]:
    """Rows of a set: `evaluated` and, where there are any, `examples`. Raises InputError when its file is missing."""
    published = SETS[name]
    path = find(folder, published.evaluated)
    if path is None:
        wanted = " or ".join(str(folder / pattern) for pattern in published.evaluated)
        raise InputError(f"--data {folder}: has no file of {name}; put the published one at {wanted}")
    rows = {"evaluated": published.read(path)}
    if not rows["evaluated"]:
        raise InputError(f"{path}: has no rows; fetch it again")
    examples = find(folder, published.examples)
    if examples is not None:
        rows["examples"] = published.read(examples)
    return rows
