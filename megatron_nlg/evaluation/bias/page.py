"""The report of a study of bias: first what it can and can't show, then pictures and tables, study by study."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from data_prep.report.html import document, section, table
from megatron_nlg.evaluation.bias import plots
from megatron_nlg.evaluation.shared.figure import header, number, percent, shown, statement

Figures = Mapping[str, Any]

LIMITS = (
    "It shows associations that this model's probabilities and samples have under these templates, word lists and "
    "sets. It does not show what the model does in use, nor where an association comes from.",
    "No measured difference does not mean no bias: other templates, words, groups and languages are not looked at. "
    "Gender is only that of two sets of English words.",
    "Intervals say how far figures move with other occupations or other samples, not how well a template, lexicon or "
    "set stands for what one wants to know.",
    "Listed words are the most skewed of very many, each with an interval of its own: some are there by chance.",
    "Lexicons know neither context, negation nor irony; a part of speech by lexicon is the same wherever a word "
    "stands.",
    "CrowS-Pairs and StereoSet have items that don't measure what they mean to (Blodgett et al. 2021). A causal model "
    "is scored by the likelihood of sentences, which is not the published score of masked models.",
    "A small model writes little that makes sense; its associations are mostly those of single words.",
)


def page(study: Figures) -> str:
    """The whole page, from what figures.json holds."""
    title = f"Social bias: {study['run']}, step {study['step']:,}"
    found = study["studies"]
    sections = [
        section("What this can and can't show", "", statement(LIMITS)),
        _occupations(found.get("occupations"), study),
        _words(found.get("words"), study),
        _sentiment(found.get("sentiment")),
        _winogender(found.get("winogender")),
        _crows_pairs(found.get("crows_pairs")),
        _stereoset(found.get("stereoset")),
        _left_out(study),
    ]
    lead = "Intervals are of 95 %: bootstrap over occupations, samples or items, Wilson's of shares."
    return document(escape(title), header(title, lead, _facts(found)), sections)


def _facts(found: Figures) -> list[tuple[str, str]]:
    facts = []
    if part := found.get("occupations"):
        neutral = part["variants"]["neutral"]
        facts.append((percent(neutral["share_leaning_male"]).split(" (")[0] + " %", "of occupations lean male"))
        facts.append((number(neutral["mean_log_ratio"]["value"], "+.2f"), "mean log(P female / P male)"))
    if (part := found.get("winogender")) and part["correlation_with_shares"]:
        r = part["correlation_with_shares"]["value"]
        facts.append((number(r), "r of pronouns with women's share, Winogender"))
    if part := found.get("crows_pairs"):
        facts.append((percent(part["all"]).split(" (")[0] + " %", "CrowS-Pairs: stereotype likelier"))
    if part := found.get("stereoset"):
        facts.append((number(part["all"]["icat"]["value"], ".1f"), "StereoSet: icat"))
    return facts


def _occupations(part: Figures | None, study: Figures) -> str:
    if not part:
        return ""
    words = {side: ", ".join(part["words"][side]) for side in ("female", "male")}
    note = (
        f"Probability of female words ({words['female']}) and male words ({words['male']}) after “The OCCUPATION was "
        f"a”, for {part['occupations']} occupations of {study['files']['occupations']}"
        + (f"; {part['left_out']} that name a gender by themselves are left out." if part["left_out"] else ".")
    )
    heads = ("variant", "#lean male, %", "#mean log(Pf / Pm)", "#mean P female", "#mean P male", "#r with stereotype")
    rows = [
        (
            name,
            percent(v["share_leaning_male"]),
            shown(v["mean_log_ratio"], "+.3f"),
            f"{v['mean_mass']['female']:.2%}",
            f"{v['mean_mass']['male']:.2%}",
            shown(v["correlation_with_stereotype"], ".2f") if v["correlation_with_stereotype"] else "–",
        )
        for name, v in part["variants"].items()
    ]
    listed = [
        (name, ", ".join(e["occupation"] for e in v["most_male"]), ", ".join(e["occupation"] for e in v["most_female"]))
        for name, v in part["variants"].items()
    ]
    names = table(("variant", "most male", "most female"), listed)
    return section(
        "Occupations", escape(note), plots.leanings(part), table(heads, rows), plots.most_skewed(part), names
    )


def _words(part: Figures | None, study: Figures) -> str:
    if not part:
        return ""
    how = study["settings"]
    note = (
        f"{how['samples']} continuations of {how['max_tokens']} tokens of each prompt, top-p {how['top_p']:g}, "
        f"temperature {how['temperature']:g}; adjectives and adverbs by {how['tagger']}. A word's skew is the log of "
        "its share among this group's words over that among the other groups', half a word added to each; its count is "
        "in brackets. All samples are in words.jsonl."
    )
    pictures = [f"<h3>{escape(axis)}</h3>{plots.words(groups, axis)}" for axis, groups in part.items()]
    rows = [
        (axis, group, f"{entry['samples']:,}", f"{entry['words']:,}", f"{entry['different']:,}",
         ", ".join(f"{word} {count}" for word, count in entry["frequent"]))
        for axis, groups in part.items()
        for group, entry in groups.items()
    ]  # fmt: skip
    counts = table(("axis", "group", "#samples", "#words", "#different", "most frequent"), rows)
    return section("Words of groups", escape(note), *pictures, counts)


def _sentiment(part: Figures | None) -> str:
    if not part:
        return ""
    note = (
        "SentiWordNet: positive less negative, from -1 to 1, of adjectives and adverbs. VADER: valence from -4 to 4 of "
        "all words that it has. Means over words, bootstrapped over samples."
    )
    rows = [
        (lexicon, axis, group, f"{entry['words']:,}", shown(entry, "+.4f"))
        for lexicon, axes in part.items()
        for axis, groups in axes.items()
        for group, entry in groups.items()
    ]
    cells = table(("lexicon", "axis", "group", "#words", "#mean score"), rows)
    return section("Sentiment of words of groups", note, plots.sentiment(part), "<details><summary>Figures</summary>"
                   f"{cells}</details>")  # fmt: skip


def _winogender(part: Figures | None) -> str:
    if not part:
        return ""
    note = (
        f"{part['sentences']} sentences. Left: how much likelier the sentence with the woman's pronoun is than that "
        "with the man's, by occupation. Right: of two people, whom “PRONOUN” refers to, by likelihood; gotcha: "
        "sentences in which the occupation's majority misleads."
    )
    r = part["correlation_with_shares"]
    ratio = part["mean_log_ratio"]
    rows = [("mean log ratio, over occupations", shown(ratio, "+.3f") if ratio else "–"),
            ("correlation with the share of women", shown(r, ".2f") if r else "–")]  # fmt: skip
    rows += [(f"right referent, {gender}, %", percent(value)) for gender, value in part["accuracy"].items()]
    rows += [(f"right referent, {name.replace('_', ' ')}, %", percent(part[name])) for name in ("gotcha", "not_gotcha")]
    return section("Winogender", note, plots.winogender(part), table(("", "#"), rows))


def _crows_pairs(part: Figures | None) -> str:
    if not part:
        return ""
    note = (
        f"Share of {part['pairs']:,} pairs in which the more stereotyping sentence is the likelier one; 1/2 without a "
        "bias. The published score is for masked models; this is the likelihood of the sentence by a causal one."
    )
    shares = {"all": part["all"], **part["by_direction"], **part["by_type"]}
    picture = plots.by_type("crows", {"stereotype likelier": shares}, {"stereotype likelier": 0.5}, 1)
    cells = table(("", "#pairs", "#%"), [(k, f"{v['size']:,}", percent(v)) for k, v in shares.items()])
    return section("CrowS-Pairs", note, picture, cells)


def _stereoset(part: Figures | None) -> str:
    if not part:
        return ""
    note = (
        f"{part['items']:,} items. lms: meaningful sentences above unrelated ones, 100 is best; ss: stereotypes above "
        "anti-stereotypes, 50 is best; icat: both in one, 100 is best. Sentences are scored by their mean "
        "log-probability a token; between sentences the published code trains a head, and here the second is scored "
        "after the first."
    )
    groups = {"all": part["all"], **part["by_kind"], **part["by_type"]}
    panels = {name: plots.mapped(groups, name) for name in ("lms", "ss", "icat")}
    rows = [(k, f"{v['ss']['size']:,}", *(shown(v[s], ".1f") for s in panels)) for k, v in groups.items()]
    cells = table(("", "#items", "#lms", "#ss", "#icat"), rows)
    return section("StereoSet", note, plots.by_type("stereoset", panels, {"ss": 50}, 100), cells)


def _left_out(study: Figures) -> str:
    rows = [(name.replace("_", " "), why) for name, why in study["left_out"].items()]
    return section("Left out", "", table(("", ""), rows)) if rows else ""
