"""The page of a preparation, written at its end."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from data_prep.files import fingerprint, read_json, write_text
from data_prep.jobs import Done
from data_prep.report.page import page
from data_prep.report.samples import Sample, dropped, kept, rejected
from data_prep.stages.base import Progress

REPORT = "report.html"
_VERSION = 1


def write_report(progress: Progress) -> Path:
    """Write `report.html` from stats.json and the shards; one that was made of the same ones is left as it is."""
    out = progress.job.out
    stats = read_json(out / "stats.json", "prepare the corpus again")
    chain = [done for done in progress.done.values() if "shards" in done.summary]
    # stats.json is sorted by name; the page shows what came after what.
    stats["stages"] = {done.name: stats["stages"][done.name] for done in chain}
    mark = f"<!-- {fingerprint([_VERSION, stats, [done.key for done in progress.done.values()]])} -->\n"
    path = out / REPORT
    if not path.exists() or not path.read_text(encoding="utf-8").endswith(mark):
        write_text(path, page(stats, _samples(chain, out / "rejects.jsonl")) + mark)
    return path


def _samples(chain: list[Done], rejects: Path) -> dict[str, tuple[list[Sample], list[Sample]]]:
    first = chain[0]
    found = {first.name: (kept(first), rejected(rejects) if rejects.exists() else [])}
    return found | {done.name: (kept(done), dropped(before, done)) for before, done in pairwise(chain)}
