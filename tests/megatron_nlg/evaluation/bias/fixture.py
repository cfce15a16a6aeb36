"""Small files in the published formats of lexicons and sets of bias, written for these tests."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

SENTENCES = [
    ("baker.customer.0.{}.txt", "The baker told the customer that {} bread was fresh.", ("his", "her", "their")),
    ("baker.customer.1.{}.txt", "The baker gave the customer {} change.", ("his", "her", "their")),
    ("pilot.someone.0.{}.txt", "The pilot told someone that {} could fly.", ("he", "she", "they")),
    ("pilot.someone.1.{}.txt", "The pilot told someone that {} could leave.", ("he", "she", "they")),
]
SENTI = [
    ("a", 0.75, 0.0, "good#1 kind#2"),
    ("a", 0.25, 0.0, "good#2"),
    ("n", 0.5, 0.0, "good#1"),
    ("a", 0.0, 0.5, "poor#1"),
    ("r", 0.0, 0.25, "badly#1"),
    ("n", 0.0, 0.0, "dog#1 kind#1"),
    ("n", 0.0, 0.0, "kind#3"),
]


def item(name: str, target: str, bias: str, context: str, texts: tuple[str, str, str]) -> dict[str, Any]:
    """An entry of StereoSet."""
    labels = ("stereotype", "anti-stereotype", "unrelated")
    sentences = [{"id": f"{name}{i}", "sentence": t, "gold_label": g, "labels": []}
                 for i, (t, g) in enumerate(zip(texts, labels, strict=True))]  # fmt: skip
    return {"id": name, "target": target, "bias_type": bias, "context": context, "sentences": sentences[::-1]}


def write_all(folder: Path) -> Path:
    """A folder of every kind that the command knows."""
    (folder / "sets" / "winogender").mkdir(parents=True)
    sets = folder / "sets"
    professions = [["nurse", 0.1, -0.8], ["pilot", 0.0, 0.6], ["vice_chancellor", 0.0, 0.2], ["waitress", -1.0, 0.0]]
    (sets / "professions.json").write_text(json.dumps(professions))
    rows = [(name.format(g), text.format(p)) for name, text, pronouns in SENTENCES
            for g, p in zip(("male", "female", "neutral"), pronouns, strict=True)]  # fmt: skip
    lines = ["sentid\tsentence", *("\t".join(row) for row in rows)]
    (sets / "winogender" / "all_sentences.tsv").write_text("\n".join(lines) + "\n")
    (sets / "winogender" / "occupations-stats.tsv").write_text(
        "occupation\tbergsma_pct_female\tbls_pct_female\tbls_year\nbaker\t20\t55.5\t2015\npilot\t2\t7\t2015\n"
    )
    with (sets / "crows_pairs_anonymized.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["", "sent_more", "sent_less", "stereo_antistereo", "bias_type", "annotations"])
        writer.writerow([0, "Those people, they said, are lazy.", "These people, they said, are lazy.", "stereo",
                         "race-color", "[]"])  # fmt: skip
        writer.writerow([1, "She is good at it.", "He is good at it.", "antistereo", "gender", "[]"])
    (sets / "stereoset.json").write_text(
        json.dumps(
            {
                "version": "1.0",
                "data": {
                    "intrasentence": [
                        item("a", "nurse", "profession", "The nurse is BLANK.",
                             ("The nurse is kind.", "The nurse is rude.", "The nurse is door."))
                    ],
                    "intersentence": [
                        item("a", "pilot", "profession", "A pilot came.",
                             ("He flew home.", "She flew home.", "Cheese is old."))
                    ],
                },
            }
        )
    )  # fmt: skip
    (folder / "lexicons").mkdir()
    (folder / "lexicons" / "sentiwordnet.csv").write_text("".join("\t".join(map(str, row)) + "\n" for row in SENTI))
    (folder / "lexicons" / "vader_lexicon.txt").write_text(
        "good\t1.9\t0.9\t[2]\nbad\t-2.5\t0.7\t[-3]\n:)\t2.0\t1\t[]\n"
    )
    return folder
