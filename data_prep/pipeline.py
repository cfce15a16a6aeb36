"""A recipe from its files to `blend.yaml`: the order of the stages, and what is reported of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.blend import Blend
from data_prep.classifier import load_model
from data_prep.decontaminate.tasks import missing_files
from data_prep.files import json_text, write_text_if_changed
from data_prep.jobs import Done, Job
from data_prep.libraries import missing_libraries
from data_prep.readers.base import InputFile
from data_prep.readers.find import find_files
from data_prep.recipe import Recipe
from data_prep.report.write import write_report
from data_prep.stages.base import Inputs, Progress, Stage
from data_prep.stages.blend import WriteBlend, blend_report
from data_prep.stages.clean import Clean
from data_prep.stages.decontaminate import Decontaminate
from data_prep.stages.dedup import RemoveDuplicates
from data_prep.stages.extract import Extract
from data_prep.stages.filter import Filter
from data_prep.stages.language import Language
from data_prep.stages.quality import Quality, given_model
from data_prep.stages.read import REJECTS, Read
from data_prep.stages.tokenize import Tokenize
from data_prep.stages.tokenizer import TrainTokenizer, given_tokenizer
from data_prep.tally import Tally
from megatron_nlg.config.errors import ConfigError, InputError

STAGES: tuple[Stage, ...] = (
    Read(),
    Extract(),
    Language(),
    Clean(),
    Filter(),
    Quality(),
    RemoveDuplicates(),
    Decontaminate(),
    TrainTokenizer(),
    Tokenize(),
    WriteBlend(),
)
"""In the order they run in."""


def find_inputs(recipe: Recipe) -> Inputs:
    """Look at all inputs before anything is written; raises InputError for those that are missing or damaged."""
    files: dict[str, list[InputFile]] = {}
    problems = []
    for source in recipe.sources:
        files[source.name], found = find_files(recipe, source)
        problems += found
    problems += missing_libraries(recipe)
    problems += missing_files(recipe.decontaminate, Path(recipe.root))
    if problems:
        raise ConfigError(problems, "recipe")
    if given := given_model(recipe):
        load_model(given)
    return Inputs(files, given_tokenizer(recipe))


def prepare(recipe: Recipe, inputs: Inputs, job: Job, last: str) -> Iterator[tuple[str, Done | Blend]]:
    """Run the stages up to `last`, yielding each as it is finished; finished ones are kept."""
    progress = Progress(recipe, inputs, job)
    stages = STAGES[: [stage.name for stage in STAGES].index(last) + 1]
    if not stages[-1].wanted(recipe):
        raise InputError(f"the recipe has no section {last}, so there is nothing to do; add one, or name another stage")
    for stage in stages:
        if not stage.wanted(recipe):
            continue
        result = stage.run(progress)
        if isinstance(result, Done):
            progress.done[stage.name] = result
            if not result.was_done:
                _write_reports(progress)
        yield stage.name, result
    _write_reports(progress)  # if it was killed between a stage and its report
    if last == STAGES[-1].name:
        write_report(progress)


def _write_reports(progress: Progress) -> None:
    """`stats.json`, `recipe.yaml` (resolved) and `rejects.jsonl`, of the stages finished so far."""
    import yaml

    out, done = progress.job.out, progress.done
    stages = {}
    for name, stage in done.items():
        if "shards" in stage.summary:
            by_source = stage.summary["sources"]
            stages[name] = {"sources": by_source, "total": Tally.sum(by_source.values())}
            stages[name] |= {key: stage.summary[key] for key in ("details",) if key in stage.summary}
    stats: dict[str, Any] = {"stages": stages}
    if "dedup" in done:
        stats["dedup"] = done["dedup"].summary["clusters"]
    if "decontaminate" in done:
        stats["decontaminate"] = done["decontaminate"].summary["found"]
    if "tokenizer" in done:
        stats["tokenizer"] = done["tokenizer"].summary
    if "tokenize" in done:
        stats["tokens"] = {
            source: {key: about[key] for key in ("documents", "tokens", "bytes", "lengths")}
            for source, about in done["tokenize"].summary.items()
        }
        stats["blend"] = blend_report(progress)
    write_text_if_changed(out / "stats.json", json_text(stats))
    # None of those left out changes any output: the same recipe gives the same bytes everywhere.
    shown = progress.recipe.model_dump(mode="json", exclude={"out", "processes", "cluster"})
    write_text_if_changed(out / "recipe.yaml", yaml.safe_dump(shown, sort_keys=False, allow_unicode=True))
    write_text_if_changed(out / REJECTS, (done["read"].folder / REJECTS).read_text(encoding="utf-8"))
