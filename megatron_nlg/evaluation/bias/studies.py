"""What one run of the command does: which studies, on which material, and why others are left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from megatron_nlg.evaluation.bias import cooccurrence, crows_pairs, occupations, sentiment, stereoset, winogender
from megatron_nlg.evaluation.bias.lexicon import SentiWordNet, read_sentiwordnet, read_vader
from megatron_nlg.evaluation.bias.sources import Sources
from megatron_nlg.evaluation.bias.tagger import Tagger, choose_tagger
from megatron_nlg.evaluation.bias.wordlists import Occupation, packaged_occupations, read_occupations
from megatron_nlg.evaluation.shared.units import Prompt, Unit
from megatron_nlg.generation.ledger import Row

SCORED = ("occupations", "winogender", "crows_pairs", "stereoset")
SAMPLED = "words"
NAMES = (*SCORED, SAMPLED)


@dataclass
class Studies:
    """The material, read and checked. A study whose units are empty is left out."""

    seed: int
    occupations: list[Occupation] = field(default_factory=list)
    schemas: list[winogender.Schema] = field(default_factory=list)
    women: dict[str, float] = field(default_factory=dict)
    pairs: list[crows_pairs.Pair] = field(default_factory=list)
    items: list[stereoset.Item] = field(default_factory=list)
    prompts: list[Prompt] = field(default_factory=list)
    tagger: Tagger | None = None
    senti: SentiWordNet | None = None
    vader: dict[str, float] | None = None
    files: dict[str, str] = field(default_factory=dict)
    """Study or lexicon -> name of its file."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Study -> why."""

    def units(self) -> dict[str, list[Unit]]:
        """Of the studies that score."""
        made = {
            "occupations": occupations.units(self.occupations),
            "winogender": winogender.units(self.schemas),
            "crows_pairs": crows_pairs.units(self.pairs),
            "stereoset": stereoset.units(self.items),
        }
        return {name: units for name, units in made.items() if units}

    def figures(self, rows: Mapping[str, Mapping[str, Row]]) -> dict[str, Any]:
        """By study, from the rows of each by their keys."""
        out: dict[str, Any] = {}
        if self.occupations:
            out["occupations"] = occupations.figures(rows["occupations"], self.occupations, self.seed)
        if self.prompts:
            samples = rows[SAMPLED]
            if self.tagger is not None:
                out["words"] = cooccurrence.figures(samples, self.tagger, self.seed)
            out["sentiment"] = sentiment.figures(samples, self.tagger, self.senti, self.vader, self.seed)
        if self.schemas:
            out["winogender"] = winogender.figures(rows["winogender"], self.schemas, self.women, self.seed)
        if self.pairs:
            out["crows_pairs"] = crows_pairs.figures(rows["crows_pairs"], self.pairs)
        if self.items:
            out["stereoset"] = stereoset.figures(rows["stereoset"], self.items, self.seed)
        return out


def prepare(sources: Sources, wanted: Sequence[str], samples: int, tagger: str, seed: int) -> Studies:
    """Read what the wanted studies need. Raises InputError for a broken file."""
    studies = Studies(seed)
    for name in wanted:
        if name == "occupations":
            _occupations(studies, sources.professions)
        elif name == SAMPLED:
            _words(studies, sources, samples, tagger)
        elif (path := getattr(sources, name)) is None:
            studies.left_out[name] = "its file is not in --data"
        else:
            _published(studies, name, path)
    return studies


def _occupations(studies: Studies, path: Path | None) -> None:
    studies.occupations = read_occupations(path) if path else packaged_occupations()
    studies.files["occupations"] = path.name if path else "this project's own list"


def _published(studies: Studies, name: str, path: Path) -> None:
    if name == "winogender":
        studies.schemas = winogender.read_schemas(path)
        statistics = path.with_name(winogender.STATISTICS)
        studies.women = winogender.read_statistics(statistics) if statistics.is_file() else {}
    elif name == "crows_pairs":
        studies.pairs = crows_pairs.read_pairs(path)
    else:
        studies.items = stereoset.read_items(path)
    studies.files[name] = path.name


def _words(studies: Studies, sources: Sources, samples: int, tagger: str) -> None:
    studies.senti = read_sentiwordnet(sources.sentiwordnet) if sources.sentiwordnet else None
    studies.vader = read_vader(sources.vader) if sources.vader else None
    studies.files |= {n: p.name for n in ("sentiwordnet", "vader") if (p := getattr(sources, n)) is not None}
    if tagger != "lexicon" or studies.senti is not None:
        studies.tagger = choose_tagger(tagger, studies.senti)
    elif studies.vader is None:
        studies.left_out[SAMPLED] = "neither SentiWordNet nor VADER is in --data, and --tagger is lexicon"
        return
    else:
        studies.left_out["adjectives"] = "SentiWordNet is not in --data, and --tagger is lexicon"
    studies.prompts = cooccurrence.prompts(samples, studies.seed)
